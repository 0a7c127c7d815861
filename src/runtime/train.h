/*
 * Training state shared by the hybrid and the cached phase: parameters and optimizer, how gradients are summed, and the
 * records.
 */
#ifndef PAC_RUNTIME_TRAIN_H
#define PAC_RUNTIME_TRAIN_H

#include "buckets.h"
#include "record.h"
#include "stage.h"

/* ---- every parameter (gather.c) ---- */

/* What learns in the whole network, in canonical order, without values. */
typedef struct param_list {
    void *v; /* pac_param[count] */
    int64_t count, capacity;
    int64_t total, largest; /* elements */
} param_list;

/** The list of this job, freed by param_list_free(). Errors: those of pac_tune_walk(), on all ranks. Collective. */
pac_err param_list_new(const pac_job *job, param_list *out);
void param_list_free(param_list *l);

/* ---- summing gradients (reduce.c) ---- */

typedef struct shared_param {
    int64_t index;     /* in the stage's parameter list */
    pac_comm *holders; /* ranks of all stages that hold it; borrowed from the reducer's sets */
    bool first;        /* this stage is the first holder: it counts the parameter in the norm */
} shared_param;

/* Stages that hold the same parameters, and their ranks (NULL where this rank is not one). */
typedef struct holder_set {
    bool in[PAC_MAX_DEVICES]; /* by stage */
    pac_comm *ranks;
} holder_set;

typedef struct reducer {
    const pac_job *job;
    pac_comm *group; /* ranks with the same parameters */
    int64_t member;  /* place in it */
    int64_t nshared, shared_capacity, nsets, sets_capacity;
    void *shared;    /* shared_param[nshared] */
    void *sets;      /* holder_set[nsets] */
    buckets buckets; /* of the group's sums */
} reducer;

/** First stage of the plan that holds a parameter: it counts it in the norm and sends it on. Not collective. */
int64_t first_holder(const pac_plan *plan, const pac_param *p);
/** For a pipeline stage: group sums, then sums of shared parameters over their stages. Collective on the world. */
pac_err reducer_for_stage(const pac_job *job, const pac_layout *l, reducer *out);
/** For the cached phase: every rank holds everything. */
void reducer_for_world(const pac_job *job, reducer *out);
void reducer_free(reducer *r);

typedef struct step_sums {
    double loss, norm;
} step_sums; /* of the mini-batch, before clipping */

/**
 * Sum p->g over the ranks that hold each parameter, and the loss over all; the global norm counts every parameter once.
 * Errors: PAC_ENUMERIC on all ranks when loss or norm is not finite. Collective on the world.
 */
pac_err reduce_gradients(reducer *r, pac_params *p, double local_loss, step_sums *out);

/* ---- what is cached (steps.c) ---- */

typedef struct cache_map {
    pac_cache_layout shape;
    int64_t part[2][PAC_MAX_LAYERS + 1]; /* part number of b_i of a stack, -1: not stored */
    int64_t final;                       /* part number of the decoder's final output, or -1 */
    int64_t *len[2];                     /* [rows] rows of each sample in encoder and decoder parts; owned */
} cache_map;

/** Parts that the side network of this job reads, and the length of every training sample. Not collective. */
pac_err cache_map_new(const pac_job *job, cache_map *out);
void cache_map_free(cache_map *m);

/* ---- the run ---- */

typedef struct train {
    pac_job *job;
    record *rec;
    int64_t step, total_steps, stop_after; /* optimizer steps done; of the whole run; end of the run (--steps) */
    int64_t warmup;
    const pac_plan *plan;
    pac_layout layout;
    pac_tuned *whole; /* the whole side network (cached phase), else NULL */
    pac_optimizer *opt;
    pac_cache *cache; /* NULL: no cache */
    cache_map map;
    int64_t *order;       /* [rows] this epoch's permutation */
    double phase_started; /* clock at the begin of this epoch */
} train;

/** Does a run of this configuration write or read a cache? */
bool train_uses_cache(const pac_config *c);
/** Rows of mini-batch i of this epoch: order[lo..hi). */
pac_range train_batch(const train *t, int64_t i);
int64_t train_batches(const train *t);
bool train_done(const train *t);
/** Tokens (encoder and decoder rows) of these rows of the permutation. */
int64_t train_tokens(const train *t, pac_range r);

/** Sum, clip, update and record one step; *loss is the mini-batch's. Collective. */
pac_err train_update(train *t, reducer *r, pac_params *p, double local_loss, int64_t tokens, const char *phase, int64_t epoch,
                     double started, double *loss);

typedef struct epoch_result {
    const char *phase;
    double seconds, loss;
    int64_t samples, tokens;
} epoch_result;

/* ---- the hybrid phase (hybrid.c) ---- */

typedef struct hybrid hybrid;
/** Load this rank's stage, links and operation lists. Collective. */
pac_err hybrid_new(train *t, hybrid **out);
void hybrid_free(hybrid **h);
stage *hybrid_stage(hybrid *h);
/** No more epochs: free what they needed beside the stage. */
void hybrid_rest(hybrid *h);
/** One epoch; writes the cache when t->cache is set. Collective. */
pac_err hybrid_epoch(hybrid *h, int64_t epoch, epoch_result *out);

/* ---- the cached phase (cached.c) ---- */

typedef struct cached cached;
/** Buffers and the lm head for training t->whole from t->cache. Collective. */
pac_err cached_new(train *t, cached **out);
void cached_free(cached **c);
/** One epoch; every rank trains on its samples of each mini-batch. Collective. */
pac_err cached_epoch(cached *c, int64_t epoch, epoch_result *out);

/* Its parts, which an estimate runs too. */
/** What rank `rank` computes of a mini-batch of n samples; a plan of those ranks that take part. */
pac_range cached_part(const pac_plan *plan, int64_t n, int64_t rank);
/**
 * Whose each of `rows` samples is where the cache is sharded: in proportion to the parts of the cached phase, in turn where
 * they are equal. Errors: PAC_ENOMEM.
 */
pac_err cached_owners(const pac_plan *plan, int64_t rows, int32_t *owner);
/** Samples of a micro-batch of the cached phase at most. */
int64_t cached_chunk(const pac_job *job, const cache_map *map);
/** Where the micro-batch ends that begins at sample `from` of those up to `end`: equal ones of at most `most` samples. */
int64_t cached_chunk_end(int64_t from, int64_t end, int64_t most);
/** The lm head alone; *out is untouched with a classification head. */
pac_err cached_head(const pac_job *job, pac_model **out);
/**
 * Start to bring the cached rows of sample[0..n), part after part from part[0] on, to where the backend reads them: part[] then
 * points there, in `rows`, and *ticket is to be followed. Where they can be read as they are nothing happens (*ticket -1).
 */
pac_err cached_bring(const pac_job *job, const cache_map *map, const int64_t *sample, int64_t n, pac_arena *rows,
                     const float **part, int64_t *ticket);
/** Forward, loss (to stage_take_loss()) and backward of s->tuned, a whole side network, over the rows of sample[0..n), which
 * are where the backend reads them. Resets the slot. */
pac_err cached_micro(stage *s, micro *x, const pac_model *head, const cache_map *map, const float *const *part,
                     const int64_t *sample, int64_t n, float scale);

/* ---- moving parameters (gather.c) ---- */

/**
 * Join the stages' parameters (and optimizer moments, where whole_opt is not NULL) into the whole network on every rank.
 * Collective.
 */
pac_err gather_whole(const pac_job *job, const pac_plan *plan, const pac_params *mine, pac_optimizer *mine_opt,
                     pac_tuned *whole, pac_optimizer *whole_opt);

/* ---- evaluation (evaluate.c) ---- */

typedef struct evaluation {
    pac_metrics metrics; /* the task's metrics and "loss", the same on every rank */
    double seconds;
    int64_t pss; /* bytes of this process while the stages were loaded */
} evaluation;

/**
 * Metrics of the eval rows through the plan's stages. own: a stage of that plan that is loaded anyway (training); NULL: load
 * one with the values of `tuned`, a list that covers the slice (NULL too: the untouched backbone). Collective.
 */
pac_err evaluate(const pac_job *job, const pac_plan *plan, stage *own, const pac_params *tuned, evaluation *out);

#endif
