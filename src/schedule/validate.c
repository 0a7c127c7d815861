/*
 * The validator: executes the lists of all stages together on nothing.
 *
 * On each stage a micro-batch walks one fixed path (receive forward, forward, send forward, receive backward, backward, send
 * backward; first and last stage and evaluation lack some of it). Every operation must be the next step of its micro-batch's
 * path and use the slot that the micro-batch took at its first step and gives back after its last. A receive waits until the
 * peer has sent. When no stage can go on before its end, the lists deadlock.
 */
#include "pac/schedule.h"

#include <limits.h>

typedef struct path {
    int length;
    pac_op_kind step[6];
} path;

typedef struct checker {
    const pac_oplist *stages;
    int64_t P, M;
    bool train;
    int64_t *pc;       /* [P] next operation */
    unsigned char *at; /* [P * M] steps of the path that are done */
    int64_t *slot_of;  /* [P * M] the slot that a micro-batch holds */
    bool *busy;        /* [P * most slots] */
    int64_t slots;
} checker;

static path path_of(int64_t p, int64_t P, bool train)
{
    path w = {0};
    if (p > 0)
        w.step[w.length++] = PAC_OP_RECV_FWD;
    w.step[w.length++] = PAC_OP_FWD;
    if (p < P - 1)
        w.step[w.length++] = PAC_OP_SEND_FWD;
    if (train && p < P - 1)
        w.step[w.length++] = PAC_OP_RECV_BWD;
    if (train)
        w.step[w.length++] = PAC_OP_BWD;
    if (train && p > 0)
        w.step[w.length++] = PAC_OP_SEND_BWD;
    return w;
}

static pac_err violation(int64_t p, int64_t i, const pac_op *op, const char *what)
{
    return pac_fail(PAC_EINTERNAL, "schedule of stage %lld, operation %lld (%s, micro-batch %lld, slot %lld): %s", (long long)p,
                    (long long)i, pac_op_name(op->kind), (long long)op->m, (long long)op->slot, what);
}

/* Has the neighbour that a receive of stage p waits for sent micro-batch m? */
static bool peer_has_sent(const checker *c, int64_t p, const pac_op *op)
{
    int64_t peer = op->kind == PAC_OP_RECV_FWD ? p - 1 : p + 1;
    pac_op_kind send = op->kind == PAC_OP_RECV_FWD ? PAC_OP_SEND_FWD : PAC_OP_SEND_BWD;
    path w = path_of(peer, c->P, c->train);
    for (int i = 0; i < c->at[peer * c->M + op->m]; i++)
        if (w.step[i] == send)
            return true;
    return false;
}

/* REDUCE comes once, after every micro-batch; STEP directly after it as the last operation. */
static pac_err check_update(const checker *c, int64_t p, const pac_op *op, int64_t i)
{
    const pac_oplist *l = &c->stages[p];
    if (!c->train)
        return violation(p, i, op, "not allowed without training");
    if (op->m != -1 || op->slot != -1)
        return violation(p, i, op, "micro-batch and slot must be -1");
    if (i != l->count - (op->kind == PAC_OP_REDUCE ? 2 : 1))
        return violation(p, i, op, "must stand at the end: reduce, then step");
    return PAC_OK;
}

static pac_err check_slot(checker *c, int64_t p, int64_t i, bool first, bool last)
{
    const pac_op *op = &c->stages[p].v[i];
    int64_t *held = &c->slot_of[p * c->M + op->m];
    if (op->slot < 0 || op->slot >= c->stages[p].in_flight)
        return violation(p, i, op, "slot outside the in-flight bound");
    bool *busy = &c->busy[p * c->slots + op->slot];
    if (first && *busy)
        return violation(p, i, op, "slot is taken by another micro-batch");
    if (!first && *held != op->slot)
        return violation(p, i, op, "slot differs from the one that the micro-batch took");
    *held = op->slot;
    *busy = !last;
    return PAC_OK;
}

/* One operation of stage p; *moved tells whether it could run now. */
static pac_err run_one(checker *c, int64_t p, bool *moved)
{
    int64_t i = c->pc[p];
    const pac_op *op = &c->stages[p].v[i];
    *moved = true;
    c->pc[p]++;
    if (op->kind == PAC_OP_REDUCE || op->kind == PAC_OP_STEP)
        return check_update(c, p, op, i);
    if (op->m < 0 || op->m >= c->M)
        return violation(p, i, op, "no such micro-batch");
    path w = path_of(p, c->P, c->train);
    unsigned char *at = &c->at[p * c->M + op->m];
    if (*at == w.length)
        return violation(p, i, op, "the micro-batch was finished before");
    if (w.step[*at] != op->kind)
        return violation(p, i, op, "out of order: another operation of this micro-batch is due");
    if ((op->kind == PAC_OP_RECV_FWD || op->kind == PAC_OP_RECV_BWD) && !peer_has_sent(c, p, op)) {
        *moved = false;
        c->pc[p]--;
        return PAC_OK;
    }
    PAC_TRY(check_slot(c, p, i, *at == 0, *at == w.length - 1));
    ++*at;
    return PAC_OK;
}

static pac_err run_all(checker *c)
{
    for (bool progress = true; progress;) {
        progress = false;
        for (int64_t p = 0; p < c->P; p++) {
            bool moved = true;
            while (moved && c->pc[p] < c->stages[p].count) {
                PAC_TRY(run_one(c, p, &moved));
                progress |= moved;
            }
        }
    }
    return PAC_OK;
}

static pac_err check_ends(const checker *c)
{
    for (int64_t p = 0; p < c->P; p++) {
        const pac_oplist *l = &c->stages[p];
        if (c->pc[p] < l->count)
            return violation(p, c->pc[p], &l->v[c->pc[p]], "waits for ever: the peer never sends");
    }
    for (int64_t p = 0; p < c->P; p++) {
        const pac_oplist *l = &c->stages[p];
        for (int64_t m = 0; m < c->M; m++)
            PAC_CHECK(c->at[p * c->M + m] == path_of(p, c->P, c->train).length, PAC_EINTERNAL,
                      "schedule of stage %lld: micro-batch %lld is not finished", (long long)p, (long long)m);
        bool updated = l->count >= 2 && l->v[l->count - 2].kind == PAC_OP_REDUCE && l->v[l->count - 1].kind == PAC_OP_STEP;
        PAC_CHECK(!c->train || updated, PAC_EINTERNAL, "schedule of stage %lld does not end with reduce and step",
                  (long long)p);
    }
    return PAC_OK;
}

static pac_err checker_init(checker *c)
{
    for (int64_t p = 0; p < c->P; p++) {
        int64_t n = c->stages[p].in_flight;
        PAC_CHECK(n >= 1 && n <= c->M, PAC_EINTERNAL, "schedule of stage %lld: %lld slots for %lld micro-batches", (long long)p,
                  (long long)n, (long long)c->M);
        c->slots = n > c->slots ? n : c->slots;
    }
    void *v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, c->P, sizeof *c->pc, &v));
    c->pc = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, c->P * c->M, sizeof *c->at, &v));
    c->at = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, c->P * c->M, sizeof *c->slot_of, &v));
    c->slot_of = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, c->P * c->slots, sizeof *c->busy, &v));
    c->busy = v;
    return PAC_OK;
}

pac_err pac_schedule_validate(const pac_oplist *stages, int64_t P, int64_t M, bool train)
{
    PAC_CHECK(P >= 1 && M >= 1 && M <= INT_MAX && P <= INT_MAX, PAC_EINVAL, "%lld stages, %lld micro-batches", (long long)P,
              (long long)M);
    checker c = {.stages = stages, .P = P, .M = M, .train = train};
    pac_err err;
    PAC_GO(checker_init(&c));
    PAC_GO(run_all(&c));
    PAC_GO(check_ends(&c));
out:
    pac_mem_free(c.pc);
    pac_mem_free(c.at);
    pac_mem_free(c.slot_of);
    pac_mem_free(c.busy);
    return err;
}
