/*
 * Rows of a data set as a data set of their own, and the paper's split of GLUE into train, validation and test on top of it.
 *
 * GLUE's test labels are not public, so the paper takes its validation rows from elsewhere: half of MRPC's and STS-B's
 * evaluation file (the other half is the test), 1000 training rows of SST-2 and QNLI (the evaluation file is the test).
 */
#include "pac/rng.h"
#include "task.h"

#include <string.h>
#include <xxhash.h>

enum { SPLIT_SEED = 2024, HELD_OUT = 1000 };

/* ---- which rows ---- */

/* rows[0..n) in a fixed random order decide: the first `taken` of it are `a`, the others `b`, both in the order of the file. */
static pac_err divide(int64_t n, int64_t taken, int64_t *a, int64_t *b)
{
    void *order, *mark;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n, sizeof(int64_t), &order));
    pac_err err = pac_mem_alloc(PAC_MEM_DATA, (size_t)n, &mark);
    if (err == PAC_OK) {
        bool *chosen = mark; /* zeroed */
        pac_rng_permutation(SPLIT_SEED, 0, n, order);
        for (int64_t i = 0; i < taken; i++)
            chosen[((int64_t *)order)[i]] = true;
        for (int64_t i = 0; i < n; i++)
            *(chosen[i] ? a++ : b++) = i;
        pac_mem_free(mark);
    }
    pac_mem_free(order);
    return err;
}

pac_err pac_split_paper(const pac_task *t, int64_t train_rows, int64_t eval_rows, pac_split *out)
{
    PAC_CHECK(t->split != PAC_SPLIT_NONE, PAC_ECONFIG,
              "task.split: paper: the paper has no split of task %s; it has one of mrpc, stsb, sst2 and qnli", t->name);
    bool halves = t->split == PAC_SPLIT_HALVES;
    int64_t rows = halves ? eval_rows : train_rows, taken = halves ? rows / 2 : HELD_OUT;
    PAC_CHECK(taken > 0 && rows > taken, PAC_EDATA, "task.split: paper: %lld rows of %s are too few: %d are expected at least",
              (long long)rows, halves ? "task.eval" : "task.train", halves ? 2 : HELD_OUT + 1);
    pac_split s = {.from_eval = halves, .nvalidation = taken, .nrest = rows - taken};
    void *validation = NULL, *rest = NULL;
    pac_err err = pac_mem_array(PAC_MEM_DATA, s.nvalidation, sizeof(int64_t), &validation);
    if (err == PAC_OK)
        err = pac_mem_array(PAC_MEM_DATA, s.nrest, sizeof(int64_t), &rest);
    s.validation = validation;
    s.rest = rest;
    if (err == PAC_OK)
        err = divide(rows, taken, s.validation, s.rest);
    if (err != PAC_OK)
        pac_split_free(&s);
    else
        *out = s;
    return err;
}

void pac_split_free(pac_split *s)
{
    pac_mem_free(s->validation);
    pac_mem_free(s->rest);
    *s = (pac_split){0};
}

/* ---- rows as a data set ---- */

/* Pieces off[r]..off[r + 1] of `ids` end to end, and the offsets of the result. */
static pac_err take_ragged(const int64_t *off, const int32_t *ids, const int64_t *rows, int64_t n, int64_t **out_off,
                           int32_t **out_ids)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n + 1, sizeof(int64_t), &p));
    int64_t *to = *out_off = p;
    for (int64_t i = 0; i < n; i++)
        to[i + 1] = to[i] + (off[rows[i] + 1] - off[rows[i]]);
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, to[n], sizeof(int32_t), &p));
    *out_ids = p;
    for (int64_t i = 0; i < n; i++)
        if (to[i + 1] > to[i])
            memcpy(*out_ids + to[i], ids + off[rows[i]], (size_t)(to[i + 1] - to[i]) * sizeof(int32_t));
    return PAC_OK;
}

/* One element of `size` bytes for each row; NULL stays NULL. */
static pac_err take_elements(const void *from, size_t size, const int64_t *rows, int64_t n, void **out)
{
    if (from == NULL)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n, size, out));
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)*out + (size_t)i * size, (const char *)from + (size_t)rows[i] * size, size);
    return PAC_OK;
}

static pac_err take_data(const pac_dataset *d, const int64_t *rows, int64_t n, pac_dataset *to)
{
    void *cls = NULL, *value = NULL, *second = NULL;
    to->rows = n;
    to->identity = XXH3_64bits_withSeed(rows, (size_t)n * sizeof *rows, d->identity);
    PAC_TRY(take_ragged(d->soff, d->sids, rows, n, &to->soff, &to->sids));
    PAC_TRY(take_ragged(d->toff, d->labels, rows, n, &to->toff, &to->labels));
    PAC_TRY(take_elements(d->cls, sizeof *d->cls, rows, n, &cls));
    to->cls = cls;
    PAC_TRY(take_elements(d->value, sizeof *d->value, rows, n, &value));
    to->value = value;
    PAC_TRY(take_elements(d->second, sizeof *d->second, rows, n, &second));
    to->second = second;
    return PAC_OK;
}

static pac_err take_gold(const pac_gold *g, const int64_t *rows, int64_t n, pac_gold *to)
{
    void *label = NULL, *target;
    to->rows = n;
    PAC_TRY(take_elements(g->label, sizeof *g->label, rows, n, &label));
    to->label = label;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n, sizeof(char *), &target)); /* zeroed: what is not copied yet can be freed */
    to->target = target;
    for (int64_t i = 0; i < n; i++)
        if (g->target[rows[i]] != NULL)
            PAC_TRY(pac_mem_strdup(g->target[rows[i]], &to->target[i]));
    return PAC_OK;
}

pac_err pac_data_rows(const pac_dataset *from, const pac_gold *gold, const int64_t *rows, int64_t n, pac_dataset *out,
                      pac_gold *out_gold)
{
    PAC_CHECK(n > 0, PAC_EINVAL, "%lld rows of a data set", (long long)n);
    PAC_CHECK(gold == NULL || gold->rows == from->rows, PAC_EINVAL, "gold values of another data set");
    for (int64_t i = 0; i < n; i++)
        PAC_CHECK(rows[i] >= 0 && rows[i] < from->rows, PAC_EINVAL, "row %lld of a data set of %lld", (long long)rows[i],
                  (long long)from->rows);
    pac_dataset data = {0};
    pac_gold values = {0};
    pac_err err = take_data(from, rows, n, &data);
    if (err == PAC_OK && gold != NULL)
        err = take_gold(gold, rows, n, &values);
    if (err != PAC_OK) {
        pac_dataset_free(&data);
        pac_gold_free(&values);
        return err;
    }
    *out = data;
    if (gold != NULL)
        *out_gold = values;
    return PAC_OK;
}

/* ---- the three parts ---- */

pac_err pac_data_split(const pac_task *t, pac_labelled *train, pac_labelled *eval, pac_parts *out)
{
    pac_err err;
    pac_split rows = {0};
    pac_parts p = {0};
    PAC_GO(pac_split_paper(t, train->data.rows, eval->data.rows, &rows));
    pac_labelled *from = rows.from_eval ? eval : train, *rest = rows.from_eval ? &p.test : &p.train;
    PAC_GO(pac_data_rows(&from->data, &from->gold, rows.validation, rows.nvalidation, &p.validation.data, &p.validation.gold));
    PAC_GO(pac_data_rows(&from->data, &from->gold, rows.rest, rows.nrest, &rest->data, &rest->gold));
    *(rows.from_eval ? &p.train : &p.test) = rows.from_eval ? *train : *eval;
    *(rows.from_eval ? train : eval) = (pac_labelled){0};
    pac_labelled_free(from);
    *out = p;
out:
    pac_split_free(&rows);
    if (err != PAC_OK)
        pac_parts_free(&p);
    return err;
}

void pac_labelled_free(pac_labelled *l)
{
    pac_dataset_free(&l->data);
    pac_gold_free(&l->gold);
}

void pac_parts_free(pac_parts *p)
{
    pac_labelled_free(&p->train);
    pac_labelled_free(&p->validation);
    pac_labelled_free(&p->test);
}
