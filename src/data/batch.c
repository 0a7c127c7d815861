/*
 * Rows of the data set gathered into a packed batch. Decoder inputs are made here, from labels or source shifted right by one.
 */
#include "pac/batch.h"
#include "pac/space.h"

#include <string.h>

static pac_err check_rows(const pac_dataset *data, const int64_t *sample, int64_t n)
{
    PAC_CHECK(n >= 0, PAC_EINVAL, "a batch of %lld rows", (long long)n);
    for (int64_t b = 0; b < n; b++)
        PAC_CHECK(sample[b] >= 0 && sample[b] < data->rows, PAC_EINVAL, "row %lld of a data set of %lld", (long long)sample[b],
                  (long long)data->rows);
    return PAC_OK;
}

static pac_err copy_rows(const int64_t *from, const int64_t *sample, int64_t n, pac_arena *arena, int64_t **out)
{
    void *p;
    PAC_TRY(pac_arena_get(arena, (size_t)(n + 1) * sizeof(int64_t), &p));
    int64_t *off = p;
    off[0] = 0;
    for (int64_t b = 0; b < n; b++)
        off[b + 1] = off[b] + (from[sample[b] + 1] - from[sample[b]]);
    *out = off;
    return PAC_OK;
}

/* The ids of the rows end to end; `off` is of the batch, `from` of the data set. */
static pac_err copy_ids(const int32_t *ids, const int64_t *from, const int64_t *sample, int64_t n, const int64_t *off,
                        pac_arena *arena, int32_t **out)
{
    void *p;
    PAC_TRY(pac_arena_get(arena, (size_t)off[n] * sizeof(int32_t), &p));
    int32_t *to = p;
    for (int64_t b = 0; b < n; b++)
        if (off[b + 1] > off[b])
            memcpy(to + off[b], ids + from[sample[b]], (size_t)(off[b + 1] - off[b]) * sizeof(int32_t));
    *out = to;
    return PAC_OK;
}

static pac_err shift_right(const int32_t *ids, const int64_t *off, int64_t n, const pac_batch_opts *opts, pac_arena *arena,
                           int32_t **out)
{
    void *p;
    PAC_TRY(pac_arena_get(arena, (size_t)off[n] * sizeof(int32_t), &p));
    int32_t *to = p;
    for (int64_t b = 0; b < n; b++)
        for (int64_t i = off[b]; i < off[b + 1]; i++)
            to[i] = i == off[b] ? opts->start_id : ids[i - 1] == PAC_IGNORE ? opts->pad_id : ids[i - 1];
    *out = to;
    return PAC_OK;
}

/* Classes of a classification head; NULL stays NULL. */
static pac_err copy_classes(const int32_t *from, const int64_t *sample, int64_t n, pac_arena *arena, const int32_t **out)
{
    void *p;
    *out = NULL;
    if (from == NULL)
        return PAC_OK;
    PAC_TRY(pac_arena_get(arena, (size_t)n * sizeof *from, &p));
    for (int64_t b = 0; b < n; b++)
        ((int32_t *)p)[b] = from[sample[b]];
    *out = p;
    return PAC_OK;
}

/* Scores, which are floats like rows. */
static pac_err copy_scores(const float *from, const int64_t *sample, int64_t n, pac_arena *arena, const float **out)
{
    void *p;
    float *copy;
    *out = NULL;
    if (from == NULL)
        return PAC_OK;
    PAC_TRY(pac_arena_get(arena, (size_t)n * sizeof *from, &p));
    for (int64_t b = 0; b < n; b++)
        ((float *)p)[b] = from[sample[b]];
    PAC_TRY(pac_arena_copy(arena, p, n, &copy));
    *out = copy;
    return PAC_OK;
}

/* Where encoder sequences begin: every sample, and its second sentence where it has one. */
static pac_err cut_seconds(const pac_dataset *data, const int64_t *sample, int64_t n, const int64_t *soff, pac_arena *arena,
                           const int64_t **aoff, int64_t *A)
{
    void *p;
    PAC_TRY(pac_arena_get(arena, (size_t)(2 * n + 1) * sizeof(int64_t), &p));
    int64_t *to = p, count = 0;
    for (int64_t b = 0; b < n; b++) {
        to[count++] = soff[b];
        int64_t second = data->second != NULL ? data->second[sample[b]] : 0;
        if (second > 0)
            to[count++] = soff[b] + second;
    }
    to[count] = soff[n];
    *aoff = to;
    *A = count;
    return PAC_OK;
}

/* Token types: 1 from the second sentence on; sentences on their own are all first ones. */
static pac_err find_types(const pac_dataset *data, const int64_t *sample, int64_t n, const int64_t *soff, bool separate,
                          pac_arena *arena, const int32_t **out)
{
    void *p;
    PAC_TRY(pac_arena_get(arena, (size_t)soff[n] * sizeof(int32_t), &p));
    int32_t *to = p;
    for (int64_t b = 0; b < n; b++) {
        int64_t second = data->second != NULL && !separate ? data->second[sample[b]] : 0;
        for (int64_t i = soff[b]; i < soff[b + 1]; i++)
            to[i] = second > 0 && i >= soff[b] + second;
    }
    *out = to;
    return PAC_OK;
}

pac_err pac_batch_gather(const pac_dataset *data, const int64_t *sample, int64_t n, const pac_batch_opts *opts,
                         pac_arena *arena, pac_batch *out)
{
    int64_t *rows, *soff, *toff;
    int32_t *sids, *tids, *labels = NULL;
    const int64_t *aoff = NULL;
    const int32_t *stypes = NULL;
    int64_t A = n;
    const int32_t *cls;
    const float *value;
    void *p;
    PAC_TRY(check_rows(data, sample, n));
    PAC_TRY(pac_arena_get(arena, (size_t)n * sizeof(int64_t), &p));
    rows = p;
    if (n > 0)
        memcpy(rows, sample, (size_t)n * sizeof(int64_t));
    PAC_TRY(copy_rows(data->soff, sample, n, arena, &soff));
    PAC_TRY(copy_ids(data->sids, data->soff, sample, n, soff, arena, &sids));
    toff = soff;
    if (!opts->shift_source) {
        PAC_TRY(copy_rows(data->toff, sample, n, arena, &toff));
        PAC_TRY(copy_ids(data->labels, data->toff, sample, n, toff, arena, &labels));
    }
    PAC_TRY(shift_right(opts->shift_source ? sids : labels, toff, n, opts, arena, &tids));
    PAC_TRY(copy_classes(data->cls, sample, n, arena, &cls));
    PAC_TRY(copy_scores(data->value, sample, n, arena, &value));
    if (opts->separate)
        PAC_TRY(cut_seconds(data, sample, n, soff, arena, &aoff, &A));
    if (opts->types)
        PAC_TRY(find_types(data, sample, n, soff, opts->separate, arena, &stypes));
    *out = (pac_batch){.B = n,
                       .sample = rows,
                       .soff = soff,
                       .sids = sids,
                       .toff = toff,
                       .tids = tids,
                       .labels = labels,
                       .cls = cls,
                       .value = value,
                       .A = A,
                       .aoff = aoff,
                       .stypes = stypes};
    return PAC_OK;
}

void pac_dataset_free(pac_dataset *data)
{
    pac_mem_free(data->soff);
    pac_mem_free(data->toff);
    pac_mem_free(data->sids);
    pac_mem_free(data->labels);
    pac_mem_free(data->cls);
    pac_mem_free(data->value);
    pac_mem_free(data->second);
    *data = (pac_dataset){0};
}
