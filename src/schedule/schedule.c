/*
 * The operation lists of one mini-batch: 1F1B, GPipe, one micro-batch after the other, and forwards only.
 *
 * A list is a sequence of whole passes of one micro-batch (receive, compute, send), so a schedule is nothing but the order of
 * its passes. The slot of micro-batch m is m mod in_flight, which works because every schedule here retires micro-batches in
 * order.
 */
#include "pac/schedule.h"

enum { MAX_MICROBATCHES = 1 << 24, MAX_STAGES = 1 << 16 };

static const char *const op_names[] = {
    [PAC_OP_RECV_FWD] = "receive forward",  [PAC_OP_FWD] = "forward",         [PAC_OP_SEND_FWD] = "send forward",
    [PAC_OP_RECV_BWD] = "receive backward", [PAC_OP_BWD] = "backward",        [PAC_OP_SEND_BWD] = "send backward",
    [PAC_OP_REDUCE] = "reduce gradients",   [PAC_OP_STEP] = "optimizer step",
};

const char *pac_op_name(pac_op_kind k)
{
    return (size_t)k < sizeof op_names / sizeof op_names[0] ? op_names[k] : "?";
}

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* A list under construction for stage p of P; the room was taken for the longest list. */
typedef struct builder {
    int64_t p, P;
    pac_oplist list;
} builder;

static pac_err builder_init(builder *b, int64_t p, int64_t P, int64_t M, int64_t in_flight)
{
    PAC_CHECK(P >= 1 && P <= MAX_STAGES && p >= 0 && p < P, PAC_EINVAL, "stage %lld of %lld does not exist", (long long)p,
              (long long)P);
    PAC_CHECK(M >= 1 && M <= MAX_MICROBATCHES, PAC_EINVAL, "%lld micro-batches: must be 1 to %d", (long long)M,
              MAX_MICROBATCHES);
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, 6 * M + 2, sizeof(pac_op), &v));
    *b = (builder){.p = p, .P = P, .list = {.in_flight = in_flight, .v = v}};
    return PAC_OK;
}

static void add(builder *b, pac_op_kind kind, int64_t m)
{
    int64_t slot = m < 0 ? -1 : m % b->list.in_flight;
    b->list.v[b->list.count++] = (pac_op){.kind = kind, .m = m, .slot = slot};
}

static void add_forward(builder *b, int64_t m)
{
    if (b->p > 0)
        add(b, PAC_OP_RECV_FWD, m);
    add(b, PAC_OP_FWD, m);
    if (b->p < b->P - 1)
        add(b, PAC_OP_SEND_FWD, m);
}

static void add_backward(builder *b, int64_t m)
{
    if (b->p < b->P - 1)
        add(b, PAC_OP_RECV_BWD, m);
    add(b, PAC_OP_BWD, m);
    if (b->p > 0)
        add(b, PAC_OP_SEND_BWD, m);
}

static void add_update(builder *b)
{
    add(b, PAC_OP_REDUCE, -1);
    add(b, PAC_OP_STEP, -1);
}

pac_err pac_schedule_1f1b(int64_t p, int64_t P, int64_t M, pac_oplist *out)
{
    builder b;
    PAC_TRY(builder_init(&b, p, P, M, min_i64(M, P - p)));
    int64_t warmup = min_i64(M, P - 1 - p);
    for (int64_t m = 0; m < warmup; m++)
        add_forward(&b, m);
    for (int64_t m = 0; m < M; m++) {
        if (warmup + m < M)
            add_forward(&b, warmup + m);
        add_backward(&b, m);
    }
    add_update(&b);
    *out = b.list;
    return PAC_OK;
}

/* Backwards run in the order of the forwards, not in reverse: gradients then accumulate in the same order as under 1F1B. */
pac_err pac_schedule_gpipe(int64_t p, int64_t P, int64_t M, pac_oplist *out)
{
    builder b;
    PAC_TRY(builder_init(&b, p, P, M, M));
    for (int64_t m = 0; m < M; m++)
        add_forward(&b, m);
    for (int64_t m = 0; m < M; m++)
        add_backward(&b, m);
    add_update(&b);
    *out = b.list;
    return PAC_OK;
}

pac_err pac_schedule_sequential(int64_t p, int64_t P, int64_t M, pac_oplist *out)
{
    builder b;
    PAC_TRY(builder_init(&b, p, P, M, 1));
    for (int64_t m = 0; m < M; m++) {
        add_forward(&b, m);
        add_backward(&b, m);
    }
    add_update(&b);
    *out = b.list;
    return PAC_OK;
}

pac_err pac_schedule_forward(int64_t p, int64_t P, int64_t M, pac_oplist *out)
{
    builder b;
    PAC_TRY(builder_init(&b, p, P, M, 1));
    for (int64_t m = 0; m < M; m++)
        add_forward(&b, m);
    *out = b.list;
    return PAC_OK;
}

void pac_oplist_free(pac_oplist *l)
{
    if (l == NULL)
        return;
    pac_mem_free(l->v);
    *l = (pac_oplist){0};
}
