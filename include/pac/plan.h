/*
 * Plans and profiles: pure data, and the files that hold them (YAML, documented in docs/formats.md).
 *
 * planner/ knows no MPI and no tensors: pure functions of numbers.
 */
#ifndef PAC_PLAN_H
#define PAC_PLAN_H

#include "pac/mem.h"

#include <stdbool.h>

enum { PAC_MAX_DEVICES = 256 };

/* ---- profile: what the planner knows of the devices ---- */

/* Kinds of work whose time is measured. A stage's time is a sum of them; layers of equal shape share one measurement. */
typedef enum pac_cost_kind {
    PAC_COST_ENC_BLOCK,  /* backbone encoder block, forward */
    PAC_COST_DEC_BLOCK,
    PAC_COST_ENC_EMBED,
    PAC_COST_DEC_EMBED,
    PAC_COST_HEAD,       /* head and loss, forward and backward to its input */
    PAC_COST_ENC_SIDE,   /* side layer, forward and backward */
    PAC_COST_DEC_SIDE,
    PAC_COST_NKINDS
} pac_cost_kind;

enum { PAC_MAX_POINTS = 16 };

typedef struct pac_cost_curve {
    int64_t points;
    double batch[PAC_MAX_POINTS];    /* samples, increasing */
    double fwd[PAC_MAX_POINTS];      /* seconds */
    double bwd[PAC_MAX_POINTS];
} pac_cost_curve;

/**
 * Seconds at `batch` samples by linear interpolation between the points and the origin; proportional beyond the last point. So 0 at 0
 * samples and with no points.
 */
double pac_cost_at(const pac_cost_curve *c, double batch, bool backward);

typedef struct pac_device {
    char name[64];                       /* host:rank */
    double memory;                       /* budget in bytes that the ledger may reach */
    double disk_write, disk_read;        /* bytes per second, 0: not measured */
    pac_cost_curve cost[PAC_COST_NKINDS];
} pac_device;

/* Bytes per layer kind, equal on every device. */
typedef struct pac_layer_bytes {
    double weights, tuned;               /* frozen weights; learning parameters (gradients take as much again, AdamW twice) */
    double activations;                  /* kept from forward to backward, per sample of mean length */
    double shared;                       /* part of weights that every layer naming it has in common (the embedding): once per stage */
    double shared_tuned;                 /* likewise of tuned (full fine-tuning) */
} pac_layer_bytes;

typedef struct pac_profile {
    char model[128], technique[32], optimizer[16];
    int64_t layers_enc, layers_dec;
    double source_tokens, target_tokens; /* mean lengths per sample that were profiled */
    double optimizer_states;             /* bytes of optimizer state per byte of learning parameters: 0 SGD, 2 AdamW */
    pac_layer_bytes *layer;              /* [L]; riders (embedding, head, norms) included in the layer they ride with */
    double *boundary_fwd, *boundary_bwd; /* [L + 1] bytes per sample that cross in front of layer i */
    int64_t devices;
    pac_device *device;
    double *bandwidth, *latency;         /* [devices * devices] bytes/s and seconds, [i * devices + j] from i to j */
    double cached_step_bytes_read;       /* bytes read from the cache per sample in the cached phase */
} pac_profile;

pac_err pac_profile_read(const char *path, pac_profile *out);
pac_err pac_profile_write(const pac_profile *p, const char *path);
void pac_profile_free(pac_profile *p);

/* ---- plan ---- */

typedef struct pac_stage_plan {
    int64_t first, last;       /* layers [first, last) */
    int64_t ranks;
    int64_t *rank;             /* [ranks] in order */
    double *share;             /* [ranks] fraction of every micro-batch, sum 1 */
    double *bytes;             /* [ranks] predicted peak, 0: not predicted */
} pac_stage_plan;

typedef struct pac_predicted { double hybrid_step_s, hybrid_epoch_s, redistribute_s, cached_epoch_s, total_s; } pac_predicted;

typedef struct pac_plan {
    int64_t world;             /* ranks; each is in exactly one stage */
    int64_t layers;            /* of the model: checked against it */
    int64_t microbatches;
    int64_t stages;
    pac_stage_plan *stage;
    pac_predicted predicted;
    char planner[16];          /* "paper", "pac", "given" */
} pac_plan;

/** Checks the whole file: layer ranges contiguous and complete, ranks 0..world-1 each once, shares positive. Errors name file and line. */
pac_err pac_plan_read(const char *path, pac_plan *out);
pac_err pac_plan_write(const pac_plan *p, const char *path);
void pac_plan_free(pac_plan *p);

/** "2-1-1": group sizes by stage, joined with '-'. */
void pac_plan_shape(const pac_plan *p, char *buf, size_t bytes);

/** A plan from group sizes with equal shares and layers in proportion to the ranks: tests and `--set system.groups=[2,1,1]`. */
pac_err pac_plan_even(const int64_t *groups, int64_t stages, int64_t layers, int64_t microbatches, pac_plan *out);

/* ---- planning ---- */

typedef struct pac_plan_request {
    const pac_profile *profile;
    int64_t batch;             /* mini-batch size */
    int64_t rows, epochs;      /* of the run */
    int64_t microbatches;      /* 0: try 1..batch */
    int64_t most_stages, most_ranks; /* stages of a plan, ranks of a stage; 0: any number. EDDL is one stage, Eco-FL one rank a stage */
    bool cached;               /* epochs after the first run from the cache */
} pac_plan_request;

typedef struct pac_candidate {
    char shape[64];            /* ranks by stage, "2-1-1" */
    char layers[128];          /* layers by stage, "6-4-2" */
    int64_t stages, microbatches;
    double bottleneck_s;       /* W(0->L, D, s): forward and backward of the slowest stage; infinity: does not fit */
    double step_s;             /* L_b + L_e + L_n; infinity: does not fit */
    char why[160];             /* "best", "slower by 12 %", "rank 2 lacks 3.1 MiB" */
} pac_candidate;

typedef struct pac_plan_answer {
    pac_plan plan;
    int64_t candidates;
    pac_candidate *candidate;  /* best of each number of stages, fastest first */
    double seconds;
} pac_plan_answer;

/**
 * Fill plan->predicted and the predicted bytes of every rank, for any plan, also one edited by hand.
 *
 * Step: the 1F1B timeline with whole samples by shares, messages and the all-reduce inside each group. Epoch: steps x step. Cached
 * epoch: side layers and head at batch / world samples (or reading them, where that takes longer) and a ring all-reduce of everything
 * that learns. Redistribution: all-gather of the cache and the adapters. Bytes: weights + learning parameters with gradients and
 * optimizer states + activations of every micro-batch in flight. See docs/formats.md.
 * Errors: PAC_ECONFIG (the plan is for another number of ranks or layers), PAC_EINVAL (batch, rows, epochs < 1), PAC_ENOMEM.
 */
pac_err pac_plan_predict(const pac_profile *p, const pac_plan_request *q, pac_plan *plan);

/**
 * The dynamic programme of PAC, eqs 2-6 as printed: for every M and number of stages s the best W(0->L, D, s), then the s (and M)
 * that minimises L_b + L_e + L_n. Uses every device of the profile, in order. Errors: PAC_ENOMEM (nothing fits: by how much at
 * best, and what would help), PAC_EINVAL (batch, rows, epochs < 1; microbatches not in 0..batch).
 */
pac_err pac_plan_paper(const pac_plan_request *q, pac_plan_answer *out);
void pac_plan_answer_free(pac_plan_answer *a);

#endif
