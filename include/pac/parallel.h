/*
 * The only place with MPI: world, groups as communicators, agreement on errors, links between stages, sums of gradients.
 *
 * No wait lasts for ever: every receive and every send completion has a deadline and names peer, phase and step when it passes.
 * Only one thread calls these functions (and lends MPI to one of their own, pac_comm_away()).
 */
#ifndef PAC_PARALLEL_H
#define PAC_PARALLEL_H

#include "pac/plan.h"
#include "pac/schedule.h"

typedef struct pac_comm pac_comm; /* a communicator */

/* ---- world ---- */

/*
 * Before pac_world_init() there is a world of one rank without MPI, on which every collective below is a no-op: commands and unit
 * tests that need no MPI run the same code.
 */

/** Initialise MPI (thread level SERIALIZED). Collective. Errors: PAC_EUSAGE (PAC_NODE_SIZE, PAC_TIMEOUT), PAC_ENOMEM, PAC_EPEER. */
pac_err pac_world_init(int *argc, char ***argv);
/**
 * Finalise; with a failure on this rank only, pac_world_abort() instead. Ends all ranks with 75 if one does not come.
 * Not running: a no-op. Collective.
 */
void pac_world_done(void);
/** End all ranks with an exit status after the message was printed; flushes stdio. The only way on after PAC_EPEER. */
void pac_world_abort(int status) __attribute__((noreturn));
int64_t pac_world_rank(void);
int64_t pac_world_size(void);
/** The number that a rank of the present world was started with; the same before pac_world_leave(). */
int64_t pac_world_started_as(int64_t rank);
/**
 * Make the world smaller: ranks with `leaves` are alone afterwards, with rank -1, so they tell and write nothing; they only wait in
 * pac_world_done() for the others. Those are renumbered from 0 in their order; what was made of the old world (layouts, links,
 * communicators) must be freed before. At least one rank stays; once in a run. Collective.
 */
pac_err pac_world_leave(bool leaves);
pac_comm *pac_world(void);                 /* borrowed */
const char *pac_world_host(void);
const char *pac_world_host_of(int64_t rank);
int64_t pac_node_rank(void);               /* rank within this node */
int64_t pac_node_size(void);
int64_t pac_node_of(int64_t rank);         /* number of the node that a rank runs on */
int64_t pac_node_count(void);
pac_comm *pac_node(void);                  /* ranks of this node, borrowed */
/* PAC_NODE_SIZE=k in the environment pretends that each k ranks are a node of their own: tests of redistribution on one host. */

/** Seconds after which a wait fails (default 600; PAC_TIMEOUT in the environment). Returns what was set before. */
double pac_set_timeout(double seconds);
/** What the program is doing, for messages: phase ("hybrid epoch 1") and step. Not collective. */
void pac_set_phase(const char *phase, int64_t step);

/* ---- communicators ---- */
int64_t pac_comm_rank(const pac_comm *c);
int64_t pac_comm_size(const pac_comm *c);
/** Ranks of `parent` with equal colour (>= 0; -1: none, *out NULL), ordered by key. Collective on parent. */
pac_err pac_comm_split(pac_comm *parent, int64_t colour, int64_t key, pac_comm **out);
void pac_comm_free(pac_comm **c); /* Collective. */

/* ---- agreement ---- */
/**
 * Agree on an error: each rank passes its local result; every rank returns the code of the lowest failing rank, and its message
 * ("rank 2 (host): ...") becomes every rank's message. PAC_OK if all are. Collective.
 */
pac_err pac_agree(pac_comm *c, pac_err local);
/** Check that an argument that must be the same on all ranks is: one all-reduce of {x, -x}. Errors: PAC_EINTERNAL naming `what`. Collective. */
pac_err pac_agree_same(pac_comm *c, uint64_t x, const char *what);

/* ---- collectives (64-bit counts, split into blocks of at most INT_MAX elements) ---- */
pac_err pac_bcast(pac_comm *c, void *data, size_t bytes, int64_t root);
pac_err pac_barrier(pac_comm *c);
pac_err pac_sum_f32(pac_comm *c, float *x, int64_t n);   /* in place */
pac_err pac_sum_f64(pac_comm *c, double *x, int64_t n);
pac_err pac_max_f64(pac_comm *c, double *x, int64_t n);
pac_err pac_sum_i64(pac_comm *c, int64_t *x, int64_t n);
/**
 * Every rank's `bytes` bytes, concatenated in rank order in out on every rank. counts[r], known to all, are the bytes of rank r
 * (counts[rank] == bytes). `mine` may already lie at its place in out. Collective.
 */
pac_err pac_allgatherv(pac_comm *c, const void *mine, size_t bytes, void *out, const size_t *counts);
/** Text of every rank, concatenated at rank 0 into *out (tag OTHER; NULL elsewhere). Collective. */
pac_err pac_gather_text(pac_comm *c, const char *mine, char **out);
/** Exchange: send_counts[r] bytes of `send` to each rank r, in rank order; receive likewise. Collective. */
pac_err pac_alltoallv(pac_comm *c, const void *send, const size_t *send_counts, void *recv, const size_t *recv_counts);

/* ---- sums behind the computation ----
 *
 * What was started goes on while this rank computes, but only within calls of MPI: call pac_comm_progress() now and then.
 */
typedef struct pac_sums pac_sums; /* sums over one communicator that are on their way */
/** Not collective; all members of c make one. The caller frees it. Errors: PAC_ENOMEM. */
pac_err pac_sums_new(pac_comm *c, pac_sums **out);
void pac_sums_free(pac_sums **s);
/**
 * Start x[0..n) = sum over the members, in place: x must stay untouched until pac_sums_finish(). Members start the same sums in the
 * same order; other collectives on c must not come between in another order. The result has the bits of pac_sum_f32() on the same
 * range. Collective on c. Errors: PAC_EINVAL, PAC_ENOMEM, PAC_EPEER.
 */
pac_err pac_sums_start(pac_sums *s, float *x, int64_t n);
/** Wait, with the deadline, for all that was started. Collective. */
pac_err pac_sums_finish(pac_sums *s);

/**
 * away: this thread computes and calls nothing of this header but pac_comm_away(false), which ends it. If something is under way, a
 * thread looks after it meanwhile, every 2 ms, where there are other nodes. Not collective.
 */
void pac_comm_away(bool away);
/** Let messages and sums that are under way move on now: microseconds, at most once in 0.1 ms. Not collective. */
pac_err pac_comm_progress(void);

/* Seconds of this rank since the program began: waiting for rows (received, or to leave); sums of pac_sums_*() under way, and waited for. */
typedef struct pac_comm_seconds {
    double messages, sums, sums_waited;
} pac_comm_seconds;
pac_comm_seconds pac_comm_spent(void);

/* ---- the layout of a plan ---- */
typedef struct pac_layout {
    const pac_plan *plan;      /* borrowed */
    int64_t stage, member;     /* this rank's stage and place in its group */
    int64_t P, M;
    pac_comm *group;           /* ranks of this stage */
} pac_layout;

/** Communicators of a plan. Errors: PAC_ECONFIG (plan for another number of ranks). Collective. */
pac_err pac_layout_new(const pac_plan *plan, pac_layout *out);
void pac_layout_free(pac_layout *l);
/**
 * Ranks of the stages with in[stage] (*out NULL elsewhere), in world order: sums of parameters that several stages hold. in [P] is
 * the same on all ranks. Collective on the world. Errors: PAC_ENOMEM.
 */
pac_err pac_layout_stages(const pac_layout *l, const bool *in, pac_comm **out);

/* ---- links: rows of a micro-batch from one stage's ranks to the next's ----
 *
 * Within a micro-batch of n samples each rank of a stage owns a contiguous range by shares. The ranges of two neighbouring stages
 * are intersected, and each piece is one message. What crosses is a list of matrices (slots), whose rows follow the source or
 * the target offsets of the whole micro-batch.
 */
enum { PAC_MAX_SLOTS = 8 };

typedef struct pac_slot {
    int64_t width;         /* floats per row */
    const int64_t *off;    /* [n + 1] row offsets of the WHOLE micro-batch's samples for this slot */
} pac_slot;

typedef struct pac_link pac_link; /* traffic with another stage, both directions */

/** Link between this rank's stage and another (usually +- 1; plan and layout outlive it). Not collective; both sides create theirs. */
pac_err pac_link_new(const pac_layout *l, int64_t peer_stage, pac_link **out);
/** Waits for what is still being sent. */
void pac_link_free(pac_link **k);

/**
 * Start sending this rank's rows (its own range of the micro-batch of n samples): data[i] is slot i's rows of that range, which
 * must stay untouched until pac_link_flush(). tag >= 0 separates micro-batches; messages of one tag keep their order. Not collective.
 */
pac_err pac_link_send(pac_link *k, int64_t n, const pac_slot *slots, int64_t nslots, const float *const *data, int64_t tag);
/**
 * Receive this rank's rows; data[i] has room for the rows of its range, which must stay untouched until pac_link_take(). Several
 * micro-batches may be posted ahead. Not collective.
 */
pac_err pac_link_post(pac_link *k, int64_t n, const pac_slot *slots, int64_t nslots, float *const *data, int64_t tag);
/** *here: would pac_link_take() not wait? Not collective. */
pac_err pac_link_arrived(const pac_link *k, int64_t tag, bool *here);
/** Wait, with the deadline, for what was posted with this tag. */
pac_err pac_link_take(pac_link *k, int64_t tag);
/** Both, one after the other. */
pac_err pac_link_recv(pac_link *k, int64_t n, const pac_slot *slots, int64_t nslots, float *const *data, int64_t tag);
/** Wait until all sends that carry this tag (or -1: all) are done; without it the list of sends grows. */
pac_err pac_link_flush(pac_link *k, int64_t tag);

/* ---- links between all pairs, measured ---- */
/**
 * One-way bandwidth (bytes/s) and latency (s) of every ordered pair, [size * size]; pairs one after the other. Latency is half the
 * median round trip of a few bytes, bandwidth the slope of a line through the median times of larger messages. The diagonal is a copy
 * in memory. Collective.
 */
pac_err pac_measure_links(pac_comm *c, double *bandwidth, double *latency);
/**
 * Bytes/s that each rank sends to two ranks of other nodes at once, where that is clearly less than both links promise: then its links
 * share a port. 0: they do not, or there are no two such ranks. port [size]; bandwidth as measured above, the same on all ranks.
 * Collective.
 */
pac_err pac_measure_ports(pac_comm *c, const double *bandwidth, double *port);
/**
 * Name of the network interface that leads from this rank to those of other nodes, by the system's routes; "shared memory" where all
 * ranks are on this node and the MPI library uses it; "" where there is none or it is not known. Collective on the world.
 */
pac_err pac_find_interface(char *out, size_t bytes);
/** Does the MPI library say that it takes addresses of a CUDA device? What it says must be tried before it is believed. */
bool pac_mpi_takes_device(void);
/** Version of the MPI library and the transport in use, for --version and info. */
void pac_mpi_version(char *buf, size_t bytes);

#endif
