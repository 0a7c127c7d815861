/*
 * The classification head: what of the last stack's rows it looks at (one row, or the means of two sentences), and its one or
 * two layers. It always learns.
 */
#include "technique.h"

#include <math.h>
#include <string.h>

#define PAIR_SCORE_GAIN 5.0f /* a cosine counts as this many units of a similarity score */
#define PAIR_LOGIT_GAIN 2.0f /* and this much for the second of two classes, against the first */

/* ---- parameters ---- */

static const struct {
    const char *name;
    size_t slot;
    const char *dims; /* D model, C classes, W what the projection reads */
    bool dense, random;
} rules[] = {
    {"head.dense.weight", offsetof(cls_head, dense.w), "DD", true, true},
    {"head.dense.bias", offsetof(cls_head, dense.b), "D", true, false},
    {"head.out.weight", offsetof(cls_head, out.w), "CW", false, true},
    {"head.out.bias", offsetof(cls_head, out.b), "C", false, false},
};

static int64_t width(const pac_model_desc *d)
{
    return d->block[pac_last_stack(d)].D;
}

static int64_t features(const pac_model_desc *d, const pac_tune_opts *o)
{
    return o->separate ? 4 * width(d) : width(d);
}

pac_err head_walk(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx)
{
    int64_t end = pac_depth(d) - 1;
    bool biases = d->block[pac_last_stack(d)].biases; /* as in side.c */
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        tune_item item = {.layer = end, .scope = SCOPE_HEAD, .slot = rules[i].slot};
        pac_param *p = &item.param;
        if (rules[i].dense && o->separate)
            continue;
        *p = (pac_param){.n = 1, .uses = 1, .use = {{end, end}}};
        strcpy(p->name, rules[i].name);
        for (const char *c = rules[i].dims; *c != '\0'; c++) {
            p->shape[p->ndim] = *c == 'D' ? width(d) : *c == 'C' ? o->classes : features(d, o);
            p->n *= p->shape[p->ndim++];
        }
        if (rules[i].random)
            item.deviation = biases ? linear_deviation(p->shape[1]) : 1 / sqrt((double)p->shape[1]);
        PAC_TRY(visit(ctx, &item));
    }
    return PAC_OK;
}

/* ---- which rows ---- */

static pac_stack stack_of(const pac_tuned *t)
{
    return pac_last_stack(&t->desc);
}

static const int64_t *offsets(const pac_tuned *t, const pac_batch *b)
{
    return stack_of(t) == PAC_DEC ? b->toff : b->soff;
}

/* The row of the last end of sequence (the last row where there is none), or the first row. */
static int64_t row_of(const pac_tuned *t, const pac_batch *b, int64_t i)
{
    const int64_t *off = offsets(t, b);
    int64_t last = off[i + 1] - 1;
    if (t->desc.head_first)
        return off[i];
    for (int64_t n = last; n >= off[i]; n--) /* the decoder of a classifier reads the source, shifted right */
        if (b->sids[b->soff[i] + n - off[i]] == t->desc.eos_id)
            return n;
    return last;
}

static pac_err head_rows(const pac_tuned *t, const pac_pass *p, int32_t **rows, pac_dropout *drop, const pac_dropout **used)
{
    const pac_batch *b = p->batch;
    const int64_t *off = offsets(t, b);
    void *r, *k = NULL;
    PAC_TRY(pac_arena_get(p->work, (size_t)b->B * sizeof(int32_t), &r));
    *rows = r;
    for (int64_t i = 0; i < b->B; i++) {
        PAC_CHECK(off[i + 1] > off[i], PAC_EDATA, "sequence %lld is empty: a classification head needs a token", (long long)i);
        (*rows)[i] = (int32_t)row_of(t, b, i);
    }
    *used = NULL;
    if (p->drop == NULL)
        return PAC_OK;
    PAC_TRY(pac_arena_get(p->work, (size_t)b->B * sizeof(uint64_t), &k));
    for (int64_t i = 0; i < b->B; i++)
        ((uint64_t *)k)[i] = p->drop->row[stack_of(t)][(*rows)[i]];
    *drop = *p->drop;
    drop->row[stack_of(t)] = k;
    *used = drop;
    return PAC_OK;
}

/* Two dropouts of the head differ in the layer they claim: none of the model's. */
static void drop(const pac_tuned *t, const pac_dropout *d, int64_t which, float *x, int64_t B, int64_t D)
{
    pac_drop(t->be, d, stack_of(t), pac_depth(&t->desc) + which, PAC_SITE_HEAD, x, B, D);
}

/* ---- one row of each sample ---- */

typedef struct hidden {
    int32_t *rows;
    pac_dropout keys;
    const pac_dropout *drop;
    float *row, *pre, *act; /* [B, D] */
} hidden;

/* row = drop(h[rows]); pre = dense(row); act = drop(act(pre)) */
static pac_err hidden_fwd(const pac_tuned *t, const pac_pass *p, const float *h, hidden *x)
{
    int64_t B = p->batch->B, D = width(&t->desc);
    PAC_TRY(head_rows(t, p, &x->rows, &x->keys, &x->drop));
    PAC_TRY(pac_arena_floats(p->work, B * D, &x->row));
    PAC_TRY(pac_arena_floats(p->work, B * D, &x->pre));
    PAC_TRY(pac_arena_floats(p->work, B * D, &x->act));
    t->be->embed_fwd(x->row, h, x->rows, B, D);
    drop(t, x->drop, 0, x->row, B, D);
    pac_linear_fwd(t->be, x->pre, x->row, &t->head.dense, B, D, D);
    t->be->act_fwd(x->act, x->pre, B * D, t->desc.head_act);
    drop(t, x->drop, 1, x->act, B, D);
    return PAC_OK;
}

static pac_err row_fwd(const pac_tuned *t, const pac_pass *p, float *logits, const float *h)
{
    hidden x;
    PAC_TRY(hidden_fwd(t, p, h, &x));
    pac_linear_fwd(t->be, logits, x.act, &t->head.out, p->batch->B, width(&t->desc), t->opts.classes);
    return PAC_OK;
}

static pac_err row_bwd(const pac_tuned *t, const pac_pass *p, float *dh, const float *dlogits, const float *h)
{
    hidden x;
    float *d;
    int64_t B = p->batch->B, D = width(&t->desc);
    PAC_TRY(hidden_fwd(t, p, h, &x));
    PAC_TRY(pac_arena_floats(p->work, B * D, &d));
    /* logits = out(drop(act(pre))) */
    pac_linear_bwd(t->be, d, false, dlogits, x.act, &t->head.out, B, D, t->opts.classes);
    drop(t, x.drop, 1, d, B, D);
    t->be->act_bwd(d, d, x.pre, B * D, t->desc.head_act);
    /* pre = dense(drop(h[rows])); act is no longer needed, its place takes the rows' gradient */
    pac_linear_bwd(t->be, x.act, false, d, x.row, &t->head.dense, B, D, D);
    drop(t, x.drop, 0, x.act, B, D);
    t->be->zero(dh, offsets(t, p->batch)[B] * D);
    t->be->embed_bwd(dh, x.act, x.rows, B, D);
    return PAC_OK;
}

/* ---- two sentences apart ---- */

typedef struct pair {
    float *mean, *feature, *cosine; /* [2B, D], [B, 4D], [B] */
} pair;

static pac_err check_pairs(const pac_batch *b)
{
    PAC_CHECK(b->aoff != NULL && b->A == 2 * b->B, PAC_EDATA,
              "task.pairs: separate: %lld samples have %lld sentences, expected two of each", (long long)b->B, (long long)b->A);
    return PAC_OK;
}

static pac_err pair_features(const pac_tuned *t, const pac_pass *p, const float *h, pair *x)
{
    int64_t B = p->batch->B, D = width(&t->desc);
    PAC_TRY(check_pairs(p->batch));
    PAC_TRY(pac_arena_floats(p->work, 2 * B * D, &x->mean));
    PAC_TRY(pac_arena_floats(p->work, 4 * B * D, &x->feature));
    PAC_TRY(pac_arena_floats(p->work, B, &x->cosine));
    t->be->mean_rows_fwd(x->mean, h, p->batch->aoff, 2 * B, D);
    t->be->pair_fwd(x->feature, x->cosine, x->mean, B, D);
    return PAC_OK;
}

/* The cosine's part of the logits, [B, classes]: + 5 cos, or -2 cos and + 2 cos; none with more classes. gain [classes, 1]. */
static pac_err cosine_gain(const pac_tuned *t, pac_arena *work, float **gain)
{
    int64_t C = t->opts.classes;
    void *p;
    PAC_TRY(pac_arena_get(work, (size_t)C * sizeof(float), &p));
    for (int64_t c = 0; c < C; c++)
        ((float *)p)[c] = C == 1 ? PAIR_SCORE_GAIN : C > 2 ? 0 : c == 0 ? -PAIR_LOGIT_GAIN : PAIR_LOGIT_GAIN;
    return pac_arena_copy(work, p, C, gain);
}

static pac_err pair_fwd(const pac_tuned *t, const pac_pass *p, float *logits, const float *h)
{
    pair x;
    float *gain;
    int64_t B = p->batch->B, C = t->opts.classes;
    PAC_TRY(pair_features(t, p, h, &x));
    pac_linear_fwd(t->be, logits, x.feature, &t->head.out, B, 4 * width(&t->desc), C);
    PAC_TRY(cosine_gain(t, p->work, &gain));
    /* logits += cosine gain^T */
    t->be->gemm(logits, C, x.cosine, 1, false, gain, 1, true, B, C, 1, 1.0f, 1.0f);
    return PAC_OK;
}

static pac_err pair_bwd(const pac_tuned *t, const pac_pass *p, float *dh, const float *dlogits, const float *h)
{
    pair x;
    float *gain, *dfeature, *dcosine, *dmean;
    int64_t B = p->batch->B, C = t->opts.classes, D = width(&t->desc);
    PAC_TRY(pair_features(t, p, h, &x));
    PAC_TRY(pac_arena_floats(p->work, 4 * B * D, &dfeature));
    PAC_TRY(pac_arena_floats(p->work, B, &dcosine));
    PAC_TRY(pac_arena_floats(p->work, 2 * B * D, &dmean));
    pac_linear_bwd(t->be, dfeature, false, dlogits, x.feature, &t->head.out, B, 4 * D, C);
    PAC_TRY(cosine_gain(t, p->work, &gain));
    t->be->gemm(dcosine, 1, dlogits, C, false, gain, 1, false, B, 1, C, 1.0f, 0.0f);
    t->be->pair_bwd(dmean, dfeature, dcosine, x.mean, B, D);
    t->be->mean_rows_bwd(dh, dmean, p->batch->aoff, 2 * B, D);
    return PAC_OK;
}

/* ---- both ---- */

static pac_err check_head(const pac_tuned *t)
{
    PAC_CHECK(t->head.out.w != NULL, PAC_EINVAL, "layers [%lld, %lld) have no classification head", (long long)t->first,
              (long long)t->last);
    return PAC_OK;
}

pac_err pac_cls_fwd(pac_tuned *t, const pac_pass *p, float *logits, const float *h)
{
    PAC_TRY(check_head(t));
    size_t mark = pac_arena_mark(p->work);
    pac_err err = t->opts.separate ? pair_fwd(t, p, logits, h) : row_fwd(t, p, logits, h);
    pac_arena_release(p->work, mark);
    return err;
}

pac_err pac_cls_bwd(pac_tuned *t, const pac_pass *p, float *dh, const float *dlogits, const float *h)
{
    PAC_TRY(check_head(t));
    size_t mark = pac_arena_mark(p->work);
    pac_err err = t->opts.separate ? pair_bwd(t, p, dh, dlogits, h) : row_bwd(t, p, dh, dlogits, h);
    pac_arena_release(p->work, mark);
    return err;
}
