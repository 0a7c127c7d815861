/*
 * Decoding one position at a time: what earlier positions left behind in a block, their keys and values. The step itself is
 * pac_block_fwd(); here is the part of it that attends to the cache.
 *
 * All slots lie side by side, `capacity` rows each, so one call of the attention op serves them all: a slot is a sequence of
 * `capacity` keys, and the causal mask at position t hides what is not there yet. A slot that has ended is a sequence without
 * query rows. Cross-attention is a call with the sources as sequences, each with the query rows of its beams.
 */
#include "block.h"
#include "stream.h"

#include <string.h>

struct pac_kv {
    int64_t slots, beams, capacity, I, length;
    int64_t *slot_off;          /* [slots + 1] first key row of each slot */
    float *k, *v;               /* [slots, capacity, I] */
    int64_t sources;            /* 0: no cross-attention */
    int64_t *soff;              /* [sources + 1] */
    float *source_k, *source_v; /* [S, I] */
};

static pac_err integers(pac_arena *arena, int64_t n, int64_t **out)
{
    void *p;
    PAC_TRY(pac_arena_get(arena, (size_t)n * sizeof **out, &p));
    *out = p;
    return PAC_OK;
}

/* Zeroed: attention multiplies what a mask hides by 0, which makes no number of an infinity. */
static pac_err empty_slots(pac_kv *kv, const pac_backend *be, pac_arena *arena)
{
    int64_t n = kv->slots * kv->capacity * kv->I;
    PAC_TRY(integers(arena, kv->slots + 1, &kv->slot_off));
    for (int64_t s = 0; s <= kv->slots; s++)
        kv->slot_off[s] = s * kv->capacity;
    PAC_TRY(pac_arena_floats(arena, n, &kv->k));
    PAC_TRY(pac_arena_floats(arena, n, &kv->v));
    be->zero(kv->k, n);
    be->zero(kv->v, n);
    return PAC_OK;
}

/* Keys and values of the encoder output, which no step changes. */
static pac_err read_sources(pac_kv *kv, const block_ctx *c, const pac_attn_weights *w, pac_arena *arena)
{
    const pac_batch *b = c->io->batch;
    PAC_CHECK(c->io->enc != NULL, PAC_EINVAL, "decoding needs the encoder's output");
    kv->sources = b->B;
    PAC_TRY(integers(arena, b->B + 1, &kv->soff));
    memcpy(kv->soff, b->soff, (size_t)(b->B + 1) * sizeof *b->soff);
    PAC_TRY(pac_arena_floats(arena, c->S * c->I, &kv->source_k));
    PAC_TRY(pac_arena_floats(arena, c->S * c->I, &kv->source_v));
    PAC_TRY(pac_block_linear(c, kv->source_k, c->io->enc, &w->k, c->S, c->D, c->I));
    return pac_block_linear(c, kv->source_v, c->io->enc, &w->v, c->S, c->D, c->I);
}

pac_err pac_kv_new(const pac_block_cfg *cfg, const pac_block_weights *w, const pac_block_io *io, int64_t beams,
                   int64_t capacity, pac_arena *arena, pac_kv **out)
{
    void *p;
    PAC_CHECK(cfg->causal && beams >= 1 && capacity >= 1, PAC_EINVAL, "no cache for %lld beams of %lld positions in a %s block",
              (long long)beams, (long long)capacity, cfg->causal ? "causal" : "bidirectional");
    PAC_TRY(pac_arena_get(arena, sizeof(pac_kv), &p));
    pac_kv *kv = p;
    *kv = (pac_kv){.slots = io->batch->B * beams, .beams = beams, .capacity = capacity, .I = cfg->H * cfg->K};
    PAC_TRY(empty_slots(kv, io->be, arena));
    if (cfg->cross) {
        block_ctx c = {.be = io->be, .cfg = cfg, .io = io, .S = io->batch->soff[io->batch->B], .D = cfg->D, .I = kv->I};
        PAC_TRY(read_sources(kv, &c, &w->cross, arena));
    }
    *out = kv;
    return PAC_OK;
}

int64_t pac_kv_length(const pac_kv *kv)
{
    return kv->length;
}

/* ---- one step ---- */

/* The rows of `from` [N, I] become position `length` of their slots. */
static void put(const block_ctx *c, float *to, const float *from)
{
    const pac_kv *kv = c->io->kv;
    const int64_t *toff = c->io->batch->toff;
    for (int64_t s = 0; s < kv->slots; s++)
        if (toff[s + 1] > toff[s])
            c->be->copy(to + (kv->slot_off[s] + kv->length) * kv->I, from + toff[s] * kv->I, kv->I);
}

static pac_err check_step(const pac_kv *kv, const pac_batch *b)
{
    PAC_CHECK(b->B == kv->slots, PAC_ESHAPE, "a step of %lld sequences with a cache of %lld", (long long)b->B,
              (long long)kv->slots);
    PAC_CHECK(kv->length < kv->capacity, PAC_EINVAL, "the cache holds %lld positions and is full", (long long)kv->capacity);
    for (int64_t s = 0; s < b->B; s++)
        PAC_CHECK(b->toff[s + 1] - b->toff[s] <= 1, PAC_EINVAL, "a step takes one row of a sequence, not %lld",
                  (long long)(b->toff[s + 1] - b->toff[s]));
    return PAC_OK;
}

static pac_err attend_self(const block_ctx *c, float *o, const float *q, const float *n, const pac_attn_weights *w)
{
    pac_kv *kv = c->io->kv;
    float *t;
    PAC_TRY(check_step(kv, c->io->batch));
    PAC_TRY(pac_arena_floats(c->io->work, c->N * c->I, &t));
    PAC_TRY(pac_block_linear(c, t, n, &w->k, c->N, c->D, c->I));
    put(c, kv->k, t);
    PAC_TRY(pac_block_linear(c, t, n, &w->v, c->N, c->D, c->I));
    put(c, kv->v, t);
    pac_attn p = pac_block_attn(c, false);
    p.soff = kv->slot_off;
    p.qpos = kv->length++;
    c->be->attn_fwd(o, c->I, NULL, q, c->I, kv->k, c->I, kv->v, c->I, &p);
    return PAC_OK;
}

static pac_err attend_source(const block_ctx *c, float *o, const float *q)
{
    const pac_kv *kv = c->io->kv;
    int64_t *toff;
    PAC_TRY(integers(c->io->work, kv->sources + 1, &toff));
    for (int64_t b = 0; b <= kv->sources; b++)
        toff[b] = c->io->batch->toff[b * kv->beams];
    pac_attn p = pac_block_attn(c, true);
    p.B = kv->sources;
    p.toff = toff;
    p.soff = kv->soff;
    c->be->attn_fwd(o, c->I, NULL, q, c->I, kv->source_k, c->I, kv->source_v, c->I, &p);
    return PAC_OK;
}

pac_err pac_kv_attend(const block_ctx *c, float *o, const float *q, const float *n, const pac_attn_weights *w, bool cross)
{
    return cross ? attend_source(c, o, q) : attend_self(c, o, q, n, w);
}

/* ---- beams ---- */

/* What moves is read before anything is written, through `t` [moved slots, length, I]. */
static void reorder(const pac_kv *kv, const pac_backend *be, const int64_t *parent, float *x, float *t)
{
    int64_t n = kv->length * kv->I, moved = 0;
    for (int64_t s = 0; s < kv->slots; s++)
        if (parent[s] != s)
            be->copy(t + moved++ * n, x + kv->slot_off[parent[s]] * kv->I, n);
    moved = 0;
    for (int64_t s = 0; s < kv->slots; s++)
        if (parent[s] != s)
            be->copy(x + kv->slot_off[s] * kv->I, t + moved++ * n, n);
}

pac_err pac_kv_reorder(pac_kv *kv, const pac_backend *be, const int64_t *parent, pac_arena *work)
{
    int64_t moved = 0;
    float *t;
    for (int64_t s = 0; s < kv->slots; s++) {
        PAC_CHECK(parent[s] >= 0 && parent[s] < kv->slots && parent[s] / kv->beams == s / kv->beams, PAC_EINVAL,
                  "sequence %lld cannot go on from %lld of another source", (long long)s, (long long)parent[s]);
        moved += parent[s] != s;
    }
    size_t mark = pac_arena_mark(work);
    PAC_TRY(pac_arena_floats(work, moved * kv->length * kv->I, &t));
    reorder(kv, be, parent, kv->k, t);
    reorder(kv, be, parent, kv->v, t);
    pac_arena_release(work, mark);
    return PAC_OK;
}

/* ---- of a loaded slice ---- */

static pac_err step_io(const pac_model *m, int64_t layer, const pac_batch *batch, pac_arena *work, pac_block_io *io)
{
    PAC_CHECK(layer >= m->first && layer < m->last && layer >= m->desc.layers[PAC_ENC], PAC_EINVAL,
              "layer %lld is no decoder layer of the slice [%lld, %lld)", (long long)layer, (long long)m->first,
              (long long)m->last);
    *io = (pac_block_io){.be = m->be,
                         .work = work,
                         .batch = batch,
                         .stack = PAC_DEC,
                         .bias_table = m->riders[PAC_DEC].bias_table.w,
                         .layer = layer};
    return pac_stream_use(m->stream, layer);
}

pac_err pac_model_kv_new(const pac_model *m, int64_t layer, const pac_batch *batch, const float *enc, int64_t beams,
                         int64_t capacity, pac_arena *arena, pac_arena *work, pac_kv **out)
{
    pac_block_io io;
    PAC_TRY(step_io(m, layer, batch, work, &io));
    io.enc = enc;
    return pac_kv_new(&m->desc.block[PAC_DEC], &m->blocks[layer - m->first], &io, beams, capacity, arena, out);
}

pac_err pac_model_step(const pac_model *m, int64_t layer, const pac_batch *batch, pac_kv *kv, float *y, const float *x,
                       pac_arena *work)
{
    pac_block_io io;
    PAC_TRY(step_io(m, layer, batch, work, &io));
    io.kv = kv;
    return pac_block_fwd(y, x, &m->desc.block[PAC_DEC], &m->blocks[layer - m->first], &io, NULL, NULL);
}
