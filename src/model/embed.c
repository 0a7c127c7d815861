/*
 * The embedding of any family: token * scale + position + type, their norm, dropout; each part where the description has it.
 *
 * Positions of a sequence are consecutive rows of their table and token types come in runs, so both are added piece by piece
 * without gathering indices.
 */
#include "stream.h"

typedef struct rows {
    int64_t N, D;
    const int32_t *ids;
    const int32_t *types; /* NULL: all 0 */
    int64_t A;            /* sequences with positions of their own */
    const int64_t *off;   /* [A + 1] */
    int64_t start;        /* position of their first rows */
} rows;

static rows rows_of(const pac_model *m, pac_stack stack, const pac_batch *b)
{
    if (stack == PAC_DEC)
        return (rows){.N = b->toff[b->B], .D = m->desc.block[stack].D, .ids = b->tids, .A = b->B, .off = b->toff};
    return (rows){.N = b->soff[b->B],
                  .D = m->desc.block[stack].D,
                  .ids = b->sids,
                  .types = b->stypes,
                  .A = b->aoff != NULL ? b->A : b->B,
                  .off = b->aoff != NULL ? b->aoff : b->soff};
}

static int32_t type_of(const rows *r, int64_t n)
{
    return r->types != NULL ? r->types[n] : 0;
}

/* The end of the run of equal token types that begins at row n. */
static int64_t run_end(const rows *r, int64_t n)
{
    int32_t type = type_of(r, n);
    if (r->types == NULL)
        return r->N;
    while (++n < r->N && r->types[n] == type)
        ;
    return n;
}

/* ---- checks ---- */

static pac_err check_ids(const pac_model_desc *d, const rows *r)
{
    for (int64_t i = 0; i < r->N; i++)
        PAC_CHECK(r->ids[i] >= 0 && r->ids[i] < d->vocab, PAC_EDATA,
                  "token id %d lies outside the model's vocabulary of %lld: do model and tokenizer belong together?",
                  (int)r->ids[i], (long long)d->vocab);
    for (int64_t i = 0; i < r->N && d->types > 0; i++)
        PAC_CHECK(type_of(r, i) >= 0 && type_of(r, i) < d->types, PAC_EDATA, "token type %d; the model has %lld",
                  (int)type_of(r, i), (long long)d->types);
    return PAC_OK;
}

static pac_err check_lengths(const pac_model_desc *d, const rows *r, pac_stack stack)
{
    for (int64_t a = 0; a < r->A && d->max_positions > 0; a++)
        PAC_CHECK(r->start + r->off[a + 1] - r->off[a] <= d->max_positions, PAC_EDATA,
                  "a sequence of %lld tokens; the model has %lld positions: set task.%s to at most %lld",
                  (long long)(r->start + r->off[a + 1] - r->off[a]), (long long)d->max_positions,
                  stack == PAC_ENC ? "max_source" : "max_target (with a classification head task.max_source)",
                  (long long)d->max_positions);
    return PAC_OK;
}

static pac_err check(const pac_model *m, pac_stack stack, const rows *r)
{
    PAC_CHECK(pac_has_values(&m->riders[stack].embed), PAC_EINVAL, "the slice [%lld, %lld) does not hold the stack's embedding",
              (long long)m->first, (long long)m->last);
    PAC_TRY(check_ids(&m->desc, r));
    return check_lengths(&m->desc, r, stack);
}

/* ---- forward ---- */

/* Rows of tokens; of a streamed table some at a time, so that few of its pages are ever here. */
static void gather(const pac_model *m, const float *table, const rows *r, float *x)
{
    const int64_t bytes = m->desc.vocab * r->D * (int64_t)sizeof *table, most = m->stream != NULL ? PAC_STREAM_ROWS : r->N;
    pac_stream_table_begin(m->stream, bytes);
    for (int64_t n = 0; n < r->N; n += most) {
        m->be->embed_fwd(x + n * r->D, table, r->ids + n, r->N - n < most ? r->N - n : most, r->D);
        pac_stream_table_drop(m->stream, table, bytes);
    }
    pac_stream_table_end(m->stream, bytes);
}

/* x[n] = scale token[ids[n]] + position[n's place in its sequence + offset] + type[types[n]] */
static void sum_tables(const pac_model *m, const pac_riders *w, const rows *r, float *x)
{
    const pac_backend *be = m->be;
    const int64_t D = r->D, offset = m->desc.position_offset + r->start;
    if (w->embed.packed != NULL)
        pac_packed_rows(x, w->embed.packed, r->ids, r->N);
    else
        gather(m, w->embed.w, r, x);
    if (m->desc.embed_scale != 1.0f)
        be->scale(x, r->N * D, m->desc.embed_scale);
    for (int64_t a = 0; a < r->A && w->positions.w != NULL; a++)
        be->add(x + r->off[a] * D, x + r->off[a] * D, w->positions.w + offset * D, (r->off[a + 1] - r->off[a]) * D);
    for (int64_t n = 0, end; n < r->N && w->types.w != NULL; n = end) {
        end = run_end(r, n);
        be->bias_fwd(x + n * D, w->types.w + type_of(r, n) * D, end - n, D);
    }
}

/* What the norm's backward reads; without `keep` the norm works in place. */
static pac_err norm_fwd(const pac_model *m, pac_stack stack, const rows *r, pac_arena *keep, float *x, pac_norm_saved *saved)
{
    const pac_block_cfg *b = &m->desc.block[stack];
    pac_norm_saved s = {.x = x};
    if (keep != NULL) {
        float *in;
        PAC_TRY(pac_arena_floats(keep, r->N * r->D, &in));
        PAC_TRY(pac_arena_floats(keep, r->N, &s.mean));
        PAC_TRY(pac_arena_floats(keep, r->N, &s.rstd));
        m->be->copy(in, x, r->N * r->D);
        s.x = in;
        *saved = s;
    }
    pac_norm_fwd(m->be, b->norm, x, s.mean, s.rstd, s.x, &m->riders[stack].embed_norm, r->N, r->D, b->eps);
    return PAC_OK;
}

static pac_err embed(const pac_model *m, pac_stack stack, const rows *r, pac_arena *keep, float *x, pac_norm_saved *saved)
{
    PAC_TRY(check(m, stack, r));
    sum_tables(m, &m->riders[stack], r, x);
    return m->desc.embed_norm ? norm_fwd(m, stack, r, keep, x, saved) : PAC_OK;
}

pac_err pac_model_embed_fwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *x, pac_norm_saved *saved)
{
    rows r = rows_of(m, stack, p->batch);
    PAC_TRY(embed(m, stack, &r, p->keep, x, saved));
    pac_drop(m->be, p->drop, stack, pac_span_of_stack(&m->desc, stack).first, PAC_SITE_EMBED, x, r.N, r.D);
    return PAC_OK;
}

/* ---- backward ---- */

/* x = scale token + position + type; dx is used up */
static void tables_bwd(const pac_model *m, const pac_riders *w, const rows *r, float *dx)
{
    const pac_backend *be = m->be;
    const int64_t D = r->D, offset = m->desc.position_offset;
    for (int64_t n = 0, end; n < r->N && w->types.dw != NULL; n = end) {
        end = run_end(r, n);
        be->bias_bwd(w->types.dw + type_of(r, n) * D, dx + n * D, end - n, D);
    }
    for (int64_t a = 0; a < r->A && w->positions.dw != NULL; a++)
        be->axpy(w->positions.dw + offset * D, dx + r->off[a] * D, (r->off[a + 1] - r->off[a]) * D, 1.0f);
    if (w->embed.dw == NULL)
        return;
    for (int64_t n = 0; n < r->N && m->desc.pad_frozen; n++)
        if (r->ids[n] == m->desc.pad_id)
            be->zero(dx + n * D, D);
    if (m->desc.embed_scale != 1.0f)
        be->scale(dx, r->N * D, m->desc.embed_scale);
    be->embed_bwd(w->embed.dw, dx, r->ids, r->N, D);
}

pac_err pac_model_embed_bwd(const pac_model *m, pac_stack stack, const pac_pass *p, float *dx, const pac_norm_saved *saved)
{
    const pac_riders *w = &m->riders[stack];
    const pac_block_cfg *b = &m->desc.block[stack];
    rows r = rows_of(m, stack, p->batch);
    PAC_TRY(check(m, stack, &r));
    pac_drop(m->be, p->drop, stack, pac_span_of_stack(&m->desc, stack).first, PAC_SITE_EMBED, dx, r.N, r.D);
    if (m->desc.embed_norm)
        pac_norm_bwd(m->be, b->norm, dx, dx, saved->x, &w->embed_norm, saved->mean, saved->rstd, r.N, r.D);
    tables_bwd(m, w, &r, dx);
    return PAC_OK;
}

pac_err pac_model_embed(const pac_model *m, pac_stack stack, const pac_batch *batch, float *x)
{
    rows r = rows_of(m, stack, batch);
    return embed(m, stack, &r, NULL, x, NULL);
}

pac_err pac_model_embed_step(const pac_model *m, const pac_batch *batch, int64_t position, float *x)
{
    rows r = rows_of(m, PAC_DEC, batch);
    r.start = position;
    return embed(m, PAC_DEC, &r, NULL, x, NULL);
}
