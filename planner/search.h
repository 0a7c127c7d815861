/*
 * What both searches of `planner: pac` share: a layout is a plan without shares, which follow from it; scoring one fills its
 * seconds and the bytes that it lacks.
 */
#ifndef PAC_PLANNER_SEARCH_H
#define PAC_PLANNER_SEARCH_H

#include "model.h"

typedef struct pac_layout {
    int64_t stages, microbatches, ranks;
    int16_t end[PAC_MAX_DEVICES];   /* layers before the end of stage i */
    int16_t after[PAC_MAX_DEVICES]; /* ranks before the end of stage i */
    int16_t rank[PAC_MAX_DEVICES];  /* in the order of stages; rising within a stage */
    bool equal;                     /* equal shares instead of shares by speed */
    bool cached;                    /* scored: later epochs run from the cache */
    double step, total;             /* scored: seconds; infinity: does not fit */
    double other; /* scored: the total with the cache where it is better without, and the other way round; or infinity */
    double lacks; /* scored: bytes over the budgets, summed over the devices */
} pac_layout;

/* The cached phase of a set of ranks. */
typedef struct pac_set_cost {
    uint64_t key[PAC_MAX_DEVICES / 64];
    bool known, possible; /* possible: fits memory and disks, and is wanted */
    pac_cached_cost cost;
} pac_set_cost;

enum { PAC_SET_MEMO = 1024 };

/* Seconds of a micro-batch in a stage, forward and backward. */
typedef struct pac_piece_time {
    uint64_t key; /* of its devices, layers, samples and micro-batches in flight; 0: empty */
    double seconds;
} pac_piece_time;

enum { PAC_PIECE_MEMO = 1 << 15, PAC_PIECE_DEVICES = 12, PAC_MOST_M = 64 };

typedef struct pac_search {
    pac_costs c;
    const pac_plan_request *q;
    int64_t most_stages, most_ranks, from_M, to_M;
    int64_t M[PAC_MOST_M], nM;             /* numbers of micro-batches that are tried where not all are, rising */
    bool may_cache, exact;                 /* exact: what is not found does not exist */
    int64_t scored;                        /* layouts so far */
    pac_layout *best;                      /* [most_stages + 1] by number of stages; total infinite where none fits yet */
    pac_layout *near;                      /* likewise, those that lack least; stages 0: none seen */
    pac_set_cost *memo;                    /* [PAC_SET_MEMO] */
    double *arrive;                        /* [to_M] */
    int64_t most_each;                     /* samples up to which `rate` is kept */
    double *rate;                          /* [D][most_each][L + 1] seconds of the first l layers, both directions */
    pac_piece_time *piece;                 /* [PAC_PIECE_MEMO], NULL for more than PAC_PIECE_DEVICES devices */
    pac_stage_plan stage[PAC_MAX_DEVICES]; /* of the layout being scored */
    int64_t rank[PAC_MAX_DEVICES];
    double share[PAC_MAX_DEVICES], bytes[PAC_MAX_DEVICES];
} pac_search;

/** Errors: PAC_ENOMEM. The caller calls pac_search_done() in any case. */
pac_err pac_search_init(pac_search *k, const pac_plan_request *q);
void pac_search_done(pac_search *k);

static inline int64_t pac_first_layer(const pac_layout *x, int64_t i)
{
    return i > 0 ? x->end[i - 1] : 0;
}

static inline int64_t pac_first_rank(const pac_layout *x, int64_t i)
{
    return i > 0 ? x->after[i - 1] : 0;
}

/** Fills x's score, leaves its shares and bytes in k->stage. Does not keep it. */
void pac_search_score(pac_search *k, pac_layout *x);

/** Scores x and keeps it where it is the best of its number of stages, or lacks least. True: it is. */
bool pac_search_try(pac_search *k, pac_layout *x);

/** The cached phase of the n ranks. */
const pac_set_cost *pac_search_set(pac_search *k, const int64_t *rank, int64_t n);

/** Seconds of the run with the better of cache and none; *other: with the worse, or infinity. */
double pac_search_total(const pac_search *k, const pac_score *s, const pac_set_cost *set, bool *cached, double *other);

/** The best layout of any number of stages, or NULL. */
const pac_layout *pac_search_winner(const pac_search *k);

/** Whether k is small enough for pac_search_exact(): it takes well under a second then. */
bool pac_search_is_small(const pac_search *k);

/** What pac_draft_cut() needs: k->rate, k->piece. Errors: PAC_ENOMEM. */
pac_err pac_search_rates(pac_search *k);

/** Local search, for any size (docs/planner.md). Errors: PAC_ENOMEM. */
pac_err pac_search_large(pac_search *k);

/**
 * Branch and bound over every layout (docs/planner.md). Afterwards k->best is the optimum of each number of
 * stages, and k->near lacks least where nothing fits. Errors: PAC_ENOMEM.
 */
pac_err pac_search_exact(pac_search *k);

#endif
