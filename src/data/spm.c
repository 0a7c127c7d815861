/*
 * SentencePiece (T5's spiece.model) as a kind of tokenizer: the shim's results go into ledger arrays.
 */
#include "spm_shim.h"
#include "tokenizer_kind.h"

#include <string.h>

enum { WHY_BYTES = 512 };

static pac_err spm_open(const pac_tokenizer_file *file, void **state)
{
    char why[WHY_BYTES];
    pac_spm *p;
    const char *wrong = pac_spm_check(file->data, (size_t)file->bytes);
    if (wrong == NULL && file->bytes == 0)
        wrong = "it is empty";
    if (wrong == NULL && pac_spm_open(file->data, (size_t)file->bytes, &p, why, sizeof why) != PAC_SPM_OK)
        wrong = why;
    PAC_CHECK(wrong == NULL, PAC_EDATA, "%s: not a usable SentencePiece model: %s; fetch the file again", file->path, wrong);
    *state = p;
    return PAC_OK;
}

static void spm_close(void *state)
{
    pac_spm_close(state);
}

typedef struct ids_out {
    void *ids;
    int64_t n, capacity;
} ids_out;

static int take_ids(void *user, const void *data, size_t count)
{
    _Static_assert(sizeof(int) == sizeof(int32_t), "SentencePiece's ids are int");
    ids_out *out = user;
    pac_err err = pac_mem_grow(PAC_MEM_DATA, &out->ids, &out->capacity, out->n + (int64_t)count, sizeof(int32_t));
    if (err == PAC_OK && count > 0)
        memcpy((int32_t *)out->ids + out->n, data, count * sizeof(int32_t));
    if (err == PAC_OK)
        out->n += (int64_t)count;
    return (int)err;
}

static int take_text(void *user, const void *data, size_t count)
{
    void *text;
    pac_err err = pac_mem_alloc(PAC_MEM_DATA, count + 1, &text);
    if (err != PAC_OK)
        return (int)err;
    memcpy(text, data, count); /* the block is zeroed: the end is there */
    *(char **)user = text;
    return PAC_OK;
}

static pac_err result(int rc, const char *why)
{
    return rc == PAC_SPM_FAILED ? pac_fail(PAC_EDATA, "SentencePiece: %s", why) : (pac_err)rc;
}

static pac_err spm_encode(const void *state, const char *text, size_t bytes, int32_t **ids, int64_t *n, int64_t *capacity)
{
    char why[WHY_BYTES];
    ids_out out = {*ids, *n, *capacity};
    pac_err err = result(pac_spm_encode(state, text, bytes, take_ids, &out, why, sizeof why), why);
    *ids = out.ids;
    *n = out.n;
    *capacity = out.capacity;
    return err;
}

static pac_err spm_decode(const void *state, const int32_t *ids, int64_t n, char **out)
{
    char why[WHY_BYTES];
    return result(pac_spm_decode(state, ids, (size_t)n, take_text, out, why, sizeof why), why);
}

static int64_t spm_size(const void *state)
{
    return pac_spm_size(state);
}

/* text </s>, also for two sentences: T5's prompts join them. */
static pac_form spm_form(const void *state)
{
    (void)state;
    return (pac_form){.begin = -1, .between = -1, .end = -1, .prompted = true};
}

const pac_tokenizer_kind pac_tokenizer_spm = {
    .name = "SentencePiece",
    .files = {"spiece.model"},
    .needed = 1,
    .open = spm_open,
    .close = spm_close,
    .encode = spm_encode,
    .decode = spm_decode,
    .size = spm_size,
    .form = spm_form,
};
