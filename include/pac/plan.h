/*
 * Plans: pure data, the file that holds them (YAML, documented in docs/formats.md), and the planners that make them.
 *
 * planner/ knows no MPI and no tensors: pure functions of numbers.
 */
#ifndef PAC_PLAN_H
#define PAC_PLAN_H

#include "pac/profile.h"

/* ---- plan ---- */

enum { PAC_REDISTRIBUTE_BLOCK = 4 << 20 }; /* bytes that a rank sends in a round of the redistribution */

typedef struct pac_stage_plan {
    int64_t first, last; /* layers [first, last) */
    int64_t ranks;
    int64_t *rank; /* [ranks] in order */
    double *share; /* [ranks] fraction of every micro-batch, sum 1 */
    double *bytes; /* [ranks] predicted peak, 0: not predicted */
} pac_stage_plan;

typedef struct pac_predicted {
    double hybrid_step_s, hybrid_epoch_s, redistribute_s, cached_epoch_s, total_s;
} pac_predicted;

typedef struct pac_plan {
    int64_t world;  /* devices that there are; each is in one stage or left out */
    int64_t layers; /* of the model: checked against it */
    int64_t microbatches;
    int64_t stages;
    pac_stage_plan *stage;
    int64_t left_out;     /* devices in no stage: they do nothing, in the cached phase neither */
    bool cached;          /* epochs after the first run from the cache */
    double *cached_share; /* [world] part of each mini-batch in the cached phase, 0 where left out; NULL: equal parts */
    pac_predicted predicted;
    char planner[16];           /* "paper", "pac", "given" */
    char shape[PAC_SHAPE_TEXT]; /* of the model, in words; "": not known */
} pac_plan;

/**
 * Checks the whole file: layer ranges contiguous and complete, ranks 0..world-1 each once or named in left_out, shares
 * positive. Errors name file and line.
 */
pac_err pac_plan_read(const char *path, pac_plan *out);
pac_err pac_plan_write(const pac_plan *p, const char *path);
void pac_plan_free(pac_plan *p);

/** A plan of so many empty stages; a stage of so many ranks: zeroed arrays. Freed by pac_plan_free(), also after an error.
 * Errors: PAC_ENOMEM. */
pac_err pac_plan_alloc(int64_t stages, pac_plan *out);
pac_err pac_stage_alloc(int64_t ranks, pac_stage_plan *st);

/** The same plan, its bytes too, in arrays of its own, for pac_plan_free(). Errors: PAC_ENOMEM, with *out untouched. */
pac_err pac_plan_copy(const pac_plan *from, pac_plan *out);

/** Ranks of the plan's stages, in the order of stages: to[0..n), n = world - left_out. */
int64_t pac_plan_ranks(const pac_plan *p, int64_t to[static PAC_MAX_DEVICES]);

/** n different devices in rising order: to[0..n), which may be `device`. */
void pac_devices_rising(const int64_t *device, int64_t n, int64_t *to);

/**
 * The plan among those ranks that it uses: a copy without left_out, whose ranks are renumbered from 0 in their order, as
 * pac_world_leave() does. The caller frees it. Errors: PAC_ENOMEM.
 */
pac_err pac_plan_compact(const pac_plan *p, pac_plan *out);

/** "2-1-1": group sizes by stage, joined with '-'. */
void pac_plan_shape(const pac_plan *p, char *buf, size_t bytes);

/** A plan from group sizes with equal shares and layers in proportion to the ranks: tests and `--set system.groups=[2,1,1]`. */
pac_err pac_plan_even(const int64_t *groups, int64_t stages, int64_t layers, int64_t microbatches, pac_plan *out);

/* ---- planning ---- */

typedef struct pac_plan_request {
    const pac_profile *profile;
    int64_t batch;        /* mini-batch size */
    int64_t rows, epochs; /* of the run */
    int64_t microbatches; /* 0: try 1..batch */
    int64_t most_stages,
        most_ranks; /* stages of a plan, ranks of a stage; 0: any number. EDDL is one stage, Eco-FL one rank a stage */
    double
        bucket; /* bytes of gradients that are summed in one piece behind the last backward; 0: 1 MiB; infinity: all after it */
    bool sharded; /* a device receives the parts of its own samples only (cache.redistribute: shard), not all of the cache */
    bool cached;  /* the cache may be used: epochs after the first run from it, if that is faster and fits on the disks */
    bool every_device; /* none may be left out */
    bool keep_first;   /* device 0 takes part: it reads the data and writes the results */
    bool nearest;      /* pac_plan_best(): where nothing fits, the plan that lacks the fewest bytes instead of an error */
} pac_plan_request;

enum { PAC_PLAN_NOTE = 1024 };

typedef struct pac_candidate {
    char shape[64];    /* ranks by stage, "2-1-1" */
    char layers[128];  /* layers by stage, "6-4-2" */
    char devices[128]; /* ranks in the order of stages, "3,0 1 2": stages are separated by blanks; cut when it does not fit */
    int64_t stages, microbatches;
    double bottleneck_s;    /* forward and backward of the slowest stage; of planner paper infinity where it does not fit */
    double step_s, total_s; /* of the hybrid step and the whole run; infinity: does not fit */
    double most_bytes;      /* predicted peak of the device that is nearest to its budget (or furthest above it) */
    bool cached;            /* epochs after the first run from the cache */
    bool best;              /* is the plan itself */
    char why[160];          /* "best", "slower by 12 %", "rank 2 lacks 3.1 MiB" */
} pac_candidate;

typedef struct pac_plan_answer {
    pac_plan plan;
    int64_t candidates;
    pac_candidate *candidate; /* best of each number of stages, and what a user would ask about (one device, equal shares),
                                 fastest first */
    double seconds;
    char note[PAC_PLAN_NOTE]; /* what was decided beside: devices left out, caching refused; "" */
} pac_plan_answer;

/**
 * The cost model. Fill plan->predicted and the predicted bytes of every rank, for any plan, also one edited by hand.
 *
 * Step: the 1F1B timeline with whole samples by shares, messages, and the all-reduce inside each group, then the update. Where
 * the epoch fills the cache, a step is the larger of that and of writing its part (a thread writes behind the steps). Cached
 * epoch: side layers and head of each device's part (or reading it, where that takes longer), a ring all-reduce of everything
 * that learns, the update. Redistribution: the messages of the runtime, of equal parts of the cache. Bytes: fixed + the larger
 * of both phases: weights + learning parameters with gradients and optimizer states + activations of every micro-batch in
 * flight + scratch; what the cached phase takes. The network's ports are not modelled (pac/simulate.h). See docs/planner.md.
 * Errors: PAC_ECONFIG (the plan is for another number of ranks or layers), PAC_EINVAL (batch, rows, epochs < 1), PAC_ENOMEM.
 */
pac_err pac_plan_predict(const pac_profile *p, const pac_plan_request *q, pac_plan *plan);

/**
 * The first rank of a plan of the profile's devices whose disk has no room for its part of the cache (all of it, unless
 * q->sharded); -1: all have. *need: the bytes that it would store. A cached plan without shares has equal parts; one that is
 * not cached, those that the planner would give.
 */
int64_t pac_plan_lacks_disk(const pac_profile *p, const pac_plan_request *q, const pac_plan *plan, double *need);

/**
 * Choose plan->microbatches for its stages and shares: of 1..batch (at most 1024) the one with the least predicted total among
 * those that keep to every budget; if none does, the one that lacks the fewest bytes. A request with microbatches takes those.
 * Errors: as pac_plan_predict().
 */
pac_err pac_plan_microbatches(const pac_profile *p, const pac_plan_request *q, pac_plan *plan);

/**
 * Fill the shares of every stage, and the cached phase's where there is one, by speed in whole samples: the slowest rank is as
 * fast as they allow, none takes more than its budget admits (if none can, the excess goes where it exceeds least). Errors: as
 * pac_plan_predict().
 */
pac_err pac_plan_share(const pac_profile *p, const pac_plan_request *q, pac_plan *plan);

/**
 * `planner: pac`: the plan with the least predicted total time (pac_plan_predict()) whose predicted bytes keep to every budget:
 * layers, groups, shares in proportion to speed, order of devices, number of micro-batches, devices left out, cache or none.
 * Exact (branch and bound) for small clusters, a heuristic beyond: docs/planner.md. Errors: PAC_ENOMEM (nothing fits: the plan
 * that came nearest and what it lacks), PAC_EINVAL (batch, rows, epochs < 1; microbatches not in 0..batch).
 */
pac_err pac_plan_best(const pac_plan_request *q, pac_plan_answer *out);

/**
 * `planner: paper`: the dynamic programme of PAC, eqs 2-6 as printed: for every M and number of stages s the best W(0->L, D,
 * s), then the s (and M) that minimises L_b + L_e + L_n. Uses every device of the profile, in order. Errors: PAC_ENOMEM
 * (nothing fits: by how much at best, and what would help), PAC_EINVAL (batch, rows, epochs < 1; microbatches not in 0..batch).
 */
pac_err pac_plan_paper(const pac_plan_request *q, pac_plan_answer *out);
void pac_plan_answer_free(pac_plan_answer *a);

#endif
