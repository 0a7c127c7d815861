/*
 * Rows to the tokenised data set: two ragged arrays (source, labels) that grow row by row, and the gold values beside them.
 *
 * What a text becomes is the task's (a prompt), the tokenizer's (special tokens, pairs) and the length's doing: sequence.c. Ids
 * given as they are keep their end of sequence if they have one.
 */
#include "sequence.h"
#include "task.h"

#include <string.h>
#include <xxhash.h>

typedef struct ragged {
    pac_ids a;
    int64_t *off; /* [rows + 1] */
    int64_t off_capacity;
} ragged;

struct pac_data_builder {
    const pac_data_opts *o;
    int64_t rows;
    ragged source, labels;
    pac_form form; /* of the tokenizer, where there is one */
    int32_t *second;
    bool pairs; /* some row has two sentences whose border is wanted */
    int32_t *cls;
    float *value;
    double *gold;
    char **target;
    int64_t second_capacity, cls_capacity, value_capacity, gold_capacity, target_capacity;
    bool unlabelled; /* some row has no gold value */
};

/* Append one element of a typed array; `*array` changes type on the way through pac_mem_grow(). */
#define PUSH(array, capacity, at, v)                                                                                           \
    do {                                                                                                                       \
        void *p_ = (array);                                                                                                    \
        PAC_TRY(pac_mem_grow(PAC_MEM_DATA, &p_, &(capacity), (at) + 1, sizeof *(array)));                                      \
        (array) = p_;                                                                                                          \
        (array)[at] = (v);                                                                                                     \
    } while (0)

static pac_err push_ids(pac_ids *to, const pac_data_opts *o, const int32_t *ids, int64_t n, int64_t max)
{
    int64_t keep = n < max ? n : max;
    for (int64_t i = 0; i < keep; i++)
        PAC_TRY(pac_ids_push(to, ids[i]));
    if (keep < n && ids[n - 1] == o->eos_id)
        to->ids[to->n - 1] = o->eos_id;
    return PAC_OK;
}

static pac_err start_rows(ragged *r)
{
    PUSH(r->off, r->off_capacity, 0, 0);
    return PAC_OK;
}

/* End row number `row`; `fill_to` > 0: up to that length with `fill`. */
static pac_err end_row(ragged *r, int64_t row, int64_t fill_to, int32_t fill)
{
    while (r->a.n < r->off[row] + fill_to)
        PAC_TRY(pac_ids_push(&r->a, fill));
    PUSH(r->off, r->off_capacity, row + 1, r->a.n);
    return PAC_OK;
}

/* T5 reads a prompt, and so does every model that answers in words; a classification head of the others the bare sentences. */
static pac_err push_prompt(pac_data_builder *b, const pac_example *row)
{
    const pac_data_opts *o = b->o;
    pac_text prompt = {0};
    pac_err err = o->task->prompt(o->task, row->text, row->second, &prompt);
    if (err == PAC_OK)
        err = pac_sequence_one(o, prompt.s, o->max_source, &b->source.a);
    pac_text_done(&prompt);
    return err;
}

static pac_err push_sentences(pac_data_builder *b, const pac_example *row, int32_t *second)
{
    const pac_data_opts *o = b->o;
    if (b->form.prompted || !o->classification)
        return push_prompt(b, row);
    if (row->second == NULL)
        return pac_sequence_one(o, row->text, o->max_source, &b->source.a);
    return pac_sequence_two(o, row->text, row->second, &b->source.a, second);
}

static pac_err push_source(pac_data_builder *b, const pac_example *row)
{
    const pac_data_opts *o = b->o;
    int32_t second = 0;
    PAC_TRY(row->ids != NULL ? push_ids(&b->source.a, o, row->ids, row->nids, o->max_source) : push_sentences(b, row, &second));
    PUSH(b->second, b->second_capacity, b->rows, b->form.seconds ? second : 0);
    b->pairs = b->pairs || b->second[b->rows] > 0;
    int64_t sentences = o->separate && second > 0 ? 2 : 1;
    return end_row(&b->source, b->rows, o->pad_max ? sentences * o->max_source : 0, o->pad_id);
}

static pac_err push_labels(pac_data_builder *b, const pac_example *row)
{
    const pac_data_opts *o = b->o;
    bool wanted = !o->classification && (row->labels != NULL || row->target != NULL);
    if (wanted)
        PAC_TRY(row->labels != NULL ? push_ids(&b->labels.a, o, row->labels, row->nlabels, o->max_target)
                                    : pac_sequence_one(o, row->target, o->max_target, &b->labels.a));
    return end_row(&b->labels, b->rows, wanted && o->pad_max ? o->max_target : 0, PAC_IGNORE);
}

static pac_err push_gold(pac_data_builder *b, const pac_example *row)
{
    const pac_data_opts *o = b->o;
    char *target = NULL;
    if (row->labels != NULL) {
        int64_t n = row->nlabels;
        PAC_TRY(pac_ids_text(row->labels, row->labels[n - 1] == o->eos_id ? n - 1 : n, &target));
    } else if (row->target != NULL) {
        PAC_TRY(pac_mem_strdup(row->target, &target));
    } else {
        b->unlabelled = true;
    }
    void *targets = b->target;
    pac_err err = pac_mem_grow(PAC_MEM_DATA, &targets, &b->target_capacity, b->rows + 1, sizeof(char *));
    b->target = targets;
    if (err != PAC_OK) {
        pac_mem_free(target);
        return err;
    }
    b->target[b->rows] = target;
    PUSH(b->gold, b->gold_capacity, b->rows, row->label);
    if (o->classification && o->task->classes == 1)
        PUSH(b->value, b->value_capacity, b->rows, (float)row->label);
    else if (o->classification)
        PUSH(b->cls, b->cls_capacity, b->rows, (int32_t)row->label);
    return PAC_OK;
}

static pac_err check_opts(const pac_data_opts *o)
{
    PAC_CHECK(o->max_source >= 1 && o->max_target >= 1, PAC_EINVAL, "max_source and max_target must be at least 1");
    PAC_CHECK(o->vocab > 0 && o->pad_id >= 0 && o->pad_id < o->vocab && o->eos_id < o->vocab, PAC_EINVAL,
              "pad id %d or end of sequence %d outside the vocabulary of %lld", (int)o->pad_id, (int)o->eos_id,
              (long long)o->vocab);
    bool ends = o->eos_id >= 0 || (o->tokenizer != NULL && pac_tokenizer_form(o->tokenizer).end >= 0);
    PAC_CHECK(ends, PAC_EINVAL, "neither the model nor the tokenizer has an end of sequence");
    PAC_CHECK(!o->classification || o->task->classes > 0, PAC_ECONFIG,
              "task %s has no classes; use head: lm, or a task with classes (mrpc, stsb, sst2, qnli)", o->task->name);
    PAC_CHECK(o->tokenizer != NULL || o->task->token_rows, PAC_EINVAL, "task %s needs a tokenizer", o->task->name);
    PAC_CHECK(o->tokenizer == NULL || o->task->token_rows || pac_tokenizer_size(o->tokenizer) <= o->vocab, PAC_EDATA,
              "the tokenizer has %lld ids and the model's vocabulary %lld: they do not belong together",
              (long long)pac_tokenizer_size(o->tokenizer), (long long)o->vocab);
    return o->tokenizer != NULL && !o->task->token_rows ? pac_sequence_check(o) : PAC_OK;
}

pac_err pac_data_builder_new(const pac_data_opts *o, pac_data_builder **out)
{
    PAC_TRY(check_opts(o));
    void *block;
    PAC_TRY(pac_mem_alloc(PAC_MEM_DATA, sizeof(pac_data_builder), &block));
    pac_data_builder *b = block;
    b->o = o;
    if (o->tokenizer != NULL)
        b->form = pac_tokenizer_form(o->tokenizer);
    pac_err err = start_rows(&b->source);
    if (err == PAC_OK)
        err = start_rows(&b->labels);
    if (err != PAC_OK)
        pac_data_builder_free(&b);
    else
        *out = b;
    return err;
}

pac_err pac_data_builder_row(pac_data_builder *b, const pac_example *row)
{
    PAC_TRY(push_source(b, row));
    PAC_TRY(push_labels(b, row));
    PAC_TRY(push_gold(b, row));
    b->rows++;
    return PAC_OK;
}

void pac_data_builder_free(pac_data_builder **builder)
{
    pac_data_builder *b = *builder;
    if (b == NULL)
        return;
    pac_gold gold = {b->rows, b->gold, b->target};
    /* The row that failed may have left its target behind the last complete one. */
    if (b->target != NULL && b->rows < b->target_capacity)
        pac_mem_free(b->target[b->rows]);
    pac_gold_free(&gold);
    pac_dataset data = {.soff = b->source.off,
                        .toff = b->labels.off,
                        .sids = b->source.a.ids,
                        .labels = b->labels.a.ids,
                        .second = b->second,
                        .cls = b->cls,
                        .value = b->value};
    pac_dataset_free(&data);
    pac_mem_free(b);
    *builder = NULL;
}

static uint64_t hash(const void *p, int64_t n, size_t size, uint64_t before)
{
    uint64_t tagged[2] = {before, (uint64_t)n};
    uint64_t seed = XXH3_64bits(tagged, sizeof tagged);
    return n > 0 && p != NULL ? XXH3_64bits_withSeed(p, (size_t)n * size, seed) : seed;
}

static uint64_t identity_of(const pac_data_builder *b)
{
    const pac_data_opts *o = b->o;
    uint64_t made[] = {o->tokenizer != NULL && !o->task->token_rows ? pac_tokenizer_identity(o->tokenizer) : 0,
                       (uint64_t)o->max_source, (uint64_t)o->max_target, o->pad_max,
                       (uint64_t)o->classification | (uint64_t)o->separate << 1};
    uint64_t h = hash(made, sizeof made / sizeof made[0], sizeof made[0], 0);
    h = hash(b->source.off, b->rows + 1, sizeof(int64_t), h);
    h = hash(b->labels.off, b->rows + 1, sizeof(int64_t), h);
    h = hash(b->source.a.ids, b->source.a.n, sizeof(int32_t), h);
    h = hash(b->labels.a.ids, b->labels.a.n, sizeof(int32_t), h);
    if (b->pairs)
        h = hash(b->second, b->rows, sizeof(int32_t), h);
    h = hash(b->gold, b->rows, sizeof(double), h);
    for (int64_t i = 0; i < b->rows; i++)
        h = hash(b->target[i], b->target[i] != NULL ? (int64_t)strlen(b->target[i]) : 0, 1, h);
    return h;
}

void pac_data_builder_take(pac_data_builder *b, pac_dataset *out, pac_gold *gold)
{
    *out = (pac_dataset){.rows = b->rows,
                         .soff = b->source.off,
                         .toff = b->labels.off,
                         .sids = b->source.a.ids,
                         .labels = b->labels.a.ids,
                         .identity = identity_of(b)};
    if (b->pairs) {
        out->second = b->second;
        b->second = NULL;
    }
    if (!b->unlabelled) {
        out->cls = b->cls;
        out->value = b->value;
        b->cls = NULL;
        b->value = NULL;
    }
    if (gold != NULL) {
        *gold = (pac_gold){b->rows, b->gold, b->target};
        b->gold = NULL;
        b->target = NULL;
    }
    b->source = b->labels = (ragged){0};
}

/* ---- files ---- */

typedef struct file_row {
    pac_data_builder *builder;
    const pac_lines *in;
} file_row;

static pac_err add_file_row(void *user, const pac_example *row)
{
    file_row *f = user;
    pac_err err = pac_data_builder_row(f->builder, row);
    return err == PAC_OK ? PAC_OK : pac_fail_context(err, "%s:%lld", f->in->path, (long long)f->in->line);
}

pac_err pac_data_load(const char *path, const pac_data_opts *o, pac_dataset *out, pac_gold *gold)
{
    pac_err err = PAC_OK;
    pac_lines in = {0};
    file_row to = {.in = &in};
    pac_row_sink sink = {&to, add_file_row};
    PAC_GO(pac_data_builder_new(o, &to.builder));
    PAC_GO(pac_lines_open(path, &in));
    PAC_GO(o->task->read(o->task, &in, o, &sink));
    if (to.builder->rows == 0) {
        err = pac_fail(PAC_EDATA, "%s: no rows after the header row; at least one is expected", path);
        goto out;
    }
    pac_data_builder_take(to.builder, out, gold);
out:
    pac_lines_close(&in);
    pac_data_builder_free(&to.builder);
    return err;
}

void pac_gold_free(pac_gold *g)
{
    for (int64_t i = 0; g->target != NULL && i < g->rows; i++)
        pac_mem_free(g->target[i]);
    pac_mem_free(g->target);
    pac_mem_free(g->label);
    *g = (pac_gold){0};
}
