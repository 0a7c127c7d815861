/*
 * [begin] A end, and [begin] A end [between] B end, cut to a length.
 */
#include "sequence.h"

#include "task.h"

#include <string.h>

static int64_t special_ids(const pac_form *f, bool two)
{
    return (f->begin >= 0) + 1 + (two ? (f->between >= 0) + 1 : 0);
}

pac_err pac_sequence_check(const pac_data_opts *o)
{
    pac_form f = pac_tokenizer_form(o->tokenizer);
    bool two = o->task->pair && o->classification && !f.prompted;
    PAC_CHECK(!o->separate || (two && f.seconds), PAC_ECONFIG,
              "task.pairs: separate: is for tasks with two sentences and BERT-like models with head: classification");
    PAC_CHECK(
        f.end < 0 || f.seconds || f.end == o->eos_id, PAC_EDATA,
        "the tokenizer ends sequences with id %d, the model's config.json with eos_token_id %d: they do not belong together",
        (int)f.end, (int)o->eos_id);
    int64_t least = special_ids(&f, two && !o->separate);
    PAC_CHECK(o->max_source >= least, PAC_ECONFIG, "task.max_source: %lld: the special tokens alone are %lld ids",
              (long long)o->max_source, (long long)least);
    least = special_ids(&f, false);
    PAC_CHECK(o->classification || o->max_target >= least, PAC_ECONFIG,
              "task.max_target: %lld: the special tokens alone are %lld ids", (long long)o->max_target, (long long)least);
    return PAC_OK;
}

static pac_err push_special(pac_ids *out, int32_t id)
{
    return id >= 0 ? pac_ids_push(out, id) : PAC_OK;
}

static pac_err push_end(const pac_data_opts *o, const pac_form *f, pac_ids *out)
{
    return pac_ids_push(out, f->end >= 0 ? f->end : o->eos_id);
}

static pac_err push_text(const pac_data_opts *o, const char *text, pac_ids *out)
{
    return pac_tokenizer_encode(o->tokenizer, text, strlen(text), &out->ids, &out->n, &out->capacity);
}

pac_err pac_sequence_one(const pac_data_opts *o, const char *text, int64_t max, pac_ids *out)
{
    pac_form f = pac_tokenizer_form(o->tokenizer);
    int64_t start = out->n;
    PAC_TRY(push_special(out, f.begin));
    PAC_TRY(push_text(o, text, out));
    if (out->n > start + max - 1)
        out->n = start + max - 1;
    return push_end(o, &f, out);
}

/* How many of *na and *nb ids stay when `room` is there: the longer one gives first, then both have half. */
static void cut_longest(int64_t *na, int64_t *nb, int64_t room)
{
    if (*na + *nb <= room)
        return;
    bool swapped = *na > *nb;
    int64_t shorter = swapped ? *nb : *na;
    int64_t longer = shorter > room || shorter > room - shorter ? shorter : room - shorter;
    if (shorter + longer > room) {
        shorter = room / 2;
        longer = shorter + room % 2;
    }
    *na = swapped ? longer : shorter;
    *nb = swapped ? shorter : longer;
}

static pac_err push_joined(const pac_data_opts *o, const char *a, const char *b, pac_ids *out, int32_t *second)
{
    pac_form f = pac_tokenizer_form(o->tokenizer);
    int64_t start = out->n;
    PAC_TRY(push_special(out, f.begin));
    int64_t at_a = out->n;
    PAC_TRY(push_text(o, a, out));
    int64_t end_a = out->n;
    PAC_TRY(push_end(o, &f, out));
    PAC_TRY(push_special(out, f.between));
    int64_t at_b = out->n;
    PAC_TRY(push_text(o, b, out));
    int64_t na = end_a - at_a, nb = out->n - at_b;
    cut_longest(&na, &nb, o->max_source - special_ids(&f, true));
    memmove(out->ids + at_a + na, out->ids + end_a, (size_t)(at_b - end_a + nb) * sizeof(int32_t));
    out->n = at_a + na + (at_b - end_a) + nb;
    *second = (int32_t)(out->n - nb - start);
    return push_end(o, &f, out);
}

static pac_err push_separate(const pac_data_opts *o, const char *a, const char *b, pac_ids *out, int32_t *second)
{
    int64_t start = out->n;
    PAC_TRY(pac_sequence_one(o, a, o->max_source, out));
    while (o->pad_max && out->n < start + o->max_source)
        PAC_TRY(pac_ids_push(out, o->pad_id));
    *second = (int32_t)(out->n - start);
    return pac_sequence_one(o, b, o->max_source, out);
}

pac_err pac_sequence_two(const pac_data_opts *o, const char *a, const char *b, pac_ids *out, int32_t *second)
{
    return o->separate ? push_separate(o, a, b, out, second) : push_joined(o, a, b, out, second);
}
