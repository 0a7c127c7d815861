/*
 * Attention: self and cross, causal or not, with T5's position bias or without, a prefix of cached keys, strides wider than the
 * rows, empty and one-row sequences; decoding: one query row per sequence behind a cache of keys, or against an encoder.
 */
#include "ops_fixture.h"

enum { CAUSAL = 1, BIAS = 2, CROSS = 4, PREFIX = 8, FEW_GAPS = 16, DECODE = 32 };

/* What a variant is made of. A causal variant is self-attention, or a prefix of keys followed by the query rows.
 * DECODE: the sequence's row n alone, its scores kept small: where one key takes all, its gradient would be all rounding. */
static const int variants[] = {0,
                               CAUSAL,
                               BIAS,
                               BIAS | CAUSAL,
                               CROSS,
                               CROSS | FEW_GAPS,
                               BIAS | CAUSAL | PREFIX,
                               BIAS | PREFIX,
                               DECODE | BIAS | CAUSAL,
                               DECODE | CAUSAL,
                               DECODE | CROSS,
                               DECODE | CROSS | BIAS | FEW_GAPS};
enum { VARIANTS = sizeof variants / sizeof *variants };

enum { BUCKETS = 8, MAX_DISTANCE = 20 };

/* Lengths around n, so that a batch mixes short and long; 0 and 1 occur in every batch of more than two. */
static int64_t length_of(int64_t n, int64_t b)
{
    static const int64_t cut[] = {0, 3, 0, 1, 2, 5};
    if (b == 2)
        return 0;
    if (b == 3)
        return n > 0 ? 1 : 0;
    return n > cut[b % 6] ? n - cut[b % 6] : n;
}

/* n: rows of a sequence, d: width of a head. */
static void shape(fixture *f, int64_t n, int64_t d, int variant)
{
    int what = variants[variant];
    int64_t prefix = what & DECODE ? n : what & PREFIX ? 5 : 0;
    bool bench = f->bench;
    pac_attn *p = &f->attn;
    *p = (pac_attn){.B = bench ? MAX_BATCH : 5,
                    .H = bench ? 8 : 3,
                    .K = d,
                    .scale = what & BIAS && !(what & DECODE) ? 1.0f : 0.35f,
                    .qpos = prefix};
    p->toff = f->toff;
    p->soff = f->soff;
    p->causal = what & CAUSAL;
    p->bidirectional = !p->causal;
    p->buckets = what & BIAS ? BUCKETS : 0;
    p->max_distance = MAX_DISTANCE;
    for (int64_t b = 0; b < p->B; b++) {
        int64_t t = what & DECODE ? bench || b != 2 : bench ? n : length_of(n, b);
        int64_t s = what & CROSS ? (bench ? n : length_of(n + 2, p->B - 1 - b)) : t + prefix;
        t = s > 0 ? t : 0;
        f->toff[b + 1] = f->toff[b] + t;
        f->soff[b + 1] = f->soff[b] + s;
        f->flops += 4.0 * (double)(t * s) * (double)(p->H * d) * (p->causal && t > 1 ? 0.5 : 1);
    }
    f->N = f->toff[p->B];
    f->V = f->soff[p->B];
}

static int64_t gap(const fixture *f)
{
    return variants[f->variant] & FEW_GAPS ? 0 : 5;
}

static int add_bias(fixture *f)
{
    int i = add(f, IN, "bias", BUCKETS, f->attn.H);
    f->a[i].null = f->attn.buckets == 0;
    return i;
}

/* Offsets are inside the fixture, which the harness may have moved. */
static pac_attn call_of(const fixture *f, const float *bias)
{
    pac_attn p = f->attn;
    p.toff = f->toff;
    p.soff = f->soff;
    p.bias_table = p.buckets > 0 ? bias : NULL;
    return p;
}

static void attn_fwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    shape(f, n, d, variant);
    int64_t width = f->attn.H * d, g = gap(f);
    add_strided(f, OUT, "o", f->N, width, width + g);
    add(f, OUT, "lse", f->N, f->attn.H);
    add_strided(f, IN, "q", f->N, width, width + 2 * g);
    add_strided(f, IN, "k", f->V, width, width + 3 * g);
    add_strided(f, IN, "v", f->V, width, width + 4 * g);
    add_bias(f);
    f->a[1].null = variant % 3 == 2;
}

static void attn_fwd_call(const pac_backend *be, const fixture *f)
{
    pac_attn p = call_of(f, X(5));
    be->attn_fwd(X(0), f->a[0].ld, X(1), X(2), f->a[2].ld, X(3), f->a[3].ld, X(4), f->a[4].ld, &p);
}

/* Arrays: 0 dq, 1 dk, 2 dv, 3 dbias, 4 do, 5 q, 6 k, 7 v, 8 lse, 9 bias. */
static double attn_loss_into(const fixture *f, float *lse)
{
    pac_attn p = call_of(f, INIT(9));
    float *o = temporary(f->N * f->a[4].ld);
    ref->attn_fwd(o, f->a[4].ld, lse, INIT(5), f->a[5].ld, INIT(6), f->a[6].ld, INIT(7), f->a[7].ld, &p);
    double sum = 0;
    for (int64_t i = 0; i < f->N; i++)
        sum += dot(o + i * f->a[4].ld, INIT(4) + i * f->a[4].ld, p.H * p.K);
    return sum;
}

static double attn_loss(const fixture *f)
{
    return attn_loss_into(f, NULL);
}

static void attn_bwd_setup(fixture *f, int64_t n, int64_t d, int variant)
{
    shape(f, n, d, variant);
    f->flops *= 2.5;
    int64_t width = f->attn.H * d, g = gap(f);
    add_strided(f, OUT, "dq", f->N, width, width + 2 * g);
    add_strided(f, OUT, "dk", f->V, width, width + 3 * g);
    add_strided(f, OUT, "dv", f->V, width, width + 4 * g);
    add(f, ADDED, "dbias", BUCKETS, f->attn.H);
    add_strided(f, IN, "do", f->N, width, width + g);
    add_strided(f, IN, "q", f->N, width, width + 2 * g);
    add_strided(f, IN, "k", f->V, width, width + 3 * g);
    add_strided(f, IN, "v", f->V, width, width + 4 * g);
    add(f, IN, "lse", f->N, f->attn.H);
    f->a[3].null = f->attn.buckets == 0 || variant == 7;
    add_bias(f);
    attn_loss_into(f, INIT(8));
}

static void attn_bwd_call(const pac_backend *be, const fixture *f)
{
    pac_attn p = call_of(f, X(9));
    be->attn_bwd(X(0), X(1), X(2), X(3), X(4), f->a[4].ld, X(5), f->a[5].ld, X(6), f->a[6].ld, X(7), f->a[7].ld, X(8), &p);
}

const op_case attn_cases[] = {
    {.name = "attn_fwd", .setup = attn_fwd_setup, .call = attn_fwd_call, .variants = VARIANTS, .tolerance = EXP},
    {.name = "attn_bwd",
     .setup = attn_bwd_setup,
     .call = attn_bwd_call,
     .variants = VARIANTS,
     .tolerance = EXP,
     .loss = attn_loss,
     .grads = {{0, 5}, {1, 6}, {2, 7}, {3, 9}},
     .ngrads = 4},
    {0},
};
