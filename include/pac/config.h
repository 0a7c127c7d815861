/*
 * RUN.yaml as a struct: defaults, overrides (--set a.b=value), errors with file and line. docs/formats.md documents every key.
 */
#ifndef PAC_CONFIG_H
#define PAC_CONFIG_H

#include "pac/cache.h"
#include "pac/tune.h"

enum { PAC_PATH = 4096 };

typedef enum pac_system_kind { PAC_SYS_PAC, PAC_SYS_STANDALONE, PAC_SYS_EDDL, PAC_SYS_ECOFL } pac_system_kind;

typedef enum pac_planner_kind { PAC_PLANNER_PAC, PAC_PLANNER_PAPER } pac_planner_kind;

typedef struct pac_config {
    char path[PAC_PATH]; /* of the file, for messages; relative paths inside are relative to the current directory */
    struct { char path[PAC_PATH]; pac_dtype dtype; bool stream; } model;
    struct { char name[32], train[PAC_PATH], eval[PAC_PATH]; int64_t max_source, max_target; bool pad_max; bool split_paper; bool pairs_separate; } task;
    struct {
        pac_technique_kind kind;
        int64_t reduction;
        pac_gate gate;
        pac_merge merge;
        pac_init init;
        bool up_zero;
        int64_t rank;                        /* lora */
        float alpha;
        int64_t width;                       /* adapters; 0: a sixteenth of the model's width */
        bool all_layers;
        int64_t nlayers, layers[PAC_MAX_LAYERS]; /* the list, counted from 1 within each stack as in the paper */
    } technique;
    pac_head head;
    struct {
        pac_system_kind kind;
        pac_planner_kind planner;
        bool memory_auto;
        int64_t nmemory;                 /* 1: for every device; else one per rank */
        double memory[PAC_MAX_DEVICES];  /* bytes */
        int64_t ngroups, groups[PAC_MAX_DEVICES]; /* groups: [2,1,1]: given group sizes instead of the planner; 0: plan */
    } system;
    struct {
        int64_t epochs, batch, microbatches; /* microbatches 0: auto */
        pac_optimizer_opts optimizer;
        double lr, warmup;                   /* lr below 0: the technique's usual one; warmup: steps, or a fraction below 1 */
        bool linear;
        double clip;                         /* 0: off */
        double dropout;
        bool recompute;                      /* make activations again in the backward pass */
        int64_t bucket;                      /* bytes of gradients that are summed in one piece */
        bool overlap;                        /* sums and messages behind the computation */
        uint64_t seed;
        bool eval_each_epoch, keep_best;
    } train;
    struct { bool on; char dir[PAC_PATH]; pac_dtype dtype; pac_redistribute redistribute; bool keep; } cache;
    char backend[16], precision[8];
    char output[PAC_PATH];
} pac_config;

/** Defaults of docs/formats.md. */
void pac_config_defaults(pac_config *c);
/** Read a file (NULL: none) and apply overrides "key.path=value" (n may be 0). Errors: PAC_ECONFIG, PAC_EIO, PAC_ENOTBUILT (a value of a later version). */
pac_err pac_config_read(const char *path, const char *const *sets, int64_t n, pac_config *out);
/**
 * The word that RUN.yaml has for a value of a choice, by its key: ("system.name", PAC_SYS_EDDL) is "eddl"; NULL: no such key or
 * value. Files that say the same thing use the same words. And back: false, *value untouched, where word (may be NULL) is none.
 */
const char *pac_config_word(const char *key, int value);
bool pac_config_value(const char *key, const char *word, int *value);
/** The configuration as YAML text that pac_config_read() accepts (the record kept with a run). Caller frees with pac_mem_free(). */
pac_err pac_config_text(const pac_config *c, char **out);

#endif
