/*
 * The runtime: what the commands do. A job is everything a command knows (configuration, model, data, options); train, profile,
 * plan, eval and predict are functions of a job. Nothing here prints: an observer receives progress, results are structs and JSON.
 */
#ifndef PAC_RUNTIME_H
#define PAC_RUNTIME_H

#include "pac/config.h"
#include "pac/data.h"
#include "pac/plan.h"

/* ---- watching a job ---- */

typedef struct pac_progress {
    const char *phase;      /* "profile", "hybrid epoch 1", "evaluation", ... */
    int64_t done, total;    /* steps or batches */
    double seconds;         /* since the phase began */
    double loss;            /* of the last step, NAN where there is none */
    double tokens_per_s;    /* 0 where unknown */
} pac_progress;

typedef struct pac_observer {
    void *user;
    void (*progress)(void *user, const pac_progress *p); /* rank 0 only; may be NULL */
} pac_observer;

/* ---- a job ---- */

typedef struct pac_budget {
    double bytes;    /* that this process may take; 0: no limit is known */
    int64_t sharers; /* processes of the node that the limit is divided among */
    char what[112];  /* which limit it is (pac/limits.h) */
} pac_budget;

typedef struct pac_job {
    pac_config cfg;
    pac_observer watch;
    pac_model_desc desc;
    const pac_backend *be;
    const pac_task *task;
    pac_tokenizer *tokenizer;       /* NULL where the task needs none, and on ranks other than 0 */
    pac_tune_opts tune;
    pac_batch_opts batching;
    pac_dataset train, eval;        /* on every rank */
    pac_gold gold;                  /* of the eval rows, rank 0 only */
    pac_dataset test;               /* task.split: paper: eval holds the validation rows, this the test rows; else empty */
    pac_gold test_gold;
    uint64_t model_id, tokenizer_id;
    pac_arena *staging;             /* where sums and broadcasts of rows pass that are not the host's (pac/space.h); else NULL */
    bool direct;                    /* MPI takes the backend's rows as they are: it was tried, and nothing is staged */
    double budget;                  /* bytes of memory this rank may use */
    pac_budget limit;               /* what the system allows, whatever the configuration says */
    bool on_hosts;                  /* every rank computes in memory of the host */
    bool shapes;                    /* models are loaded without values: an estimate */
} pac_job;

enum { PAC_JOB_TRAIN = 1, PAC_JOB_EVAL = 2 }; /* which data sets are loaded */

/**
 * Read the model description, the tokenizer and the data; check that they fit together. Text is tokenised once, on rank 0, and the
 * ids are sent to all. Collective. The caller owns *out.
 */
pac_err pac_job_open(const pac_config *cfg, int data, const pac_observer *watch, pac_job **out);
void pac_job_close(pac_job **job);
/** From here on eval means the test rows, where there are some (and test the validation rows). Not collective. */
void pac_job_use_test(pac_job *job);
/** How this job's text becomes ids. Not collective. */
pac_data_opts pac_job_data_options(const pac_job *job);

/* ---- commands ---- */

/** Time layers and links; every rank gets the same profile. Layers are loaded one at a time. Collective. */
pac_err pac_job_profile(pac_job *job, pac_profile *out);
/**
 * The profile of devices that are not here: times from the operations of the layers, which run dry, and from the descriptions in a
 * cluster file (pac/cluster.h). For a job of pac_estimate_open() too: nothing is loaded. Not collective. Errors: those of
 * pac_cluster_read(), PAC_ENOMEM.
 */
pac_err pac_job_cluster_profile(pac_job *job, const char *cluster_path, pac_profile *out);
/**
 * The plan of this job for the devices of the profile: given groups, or the planner (profile NULL: given groups and this world).
 * Budgets of the configuration replace those of the profile. Rank 0 decides, all receive the plan; `answer` (may be NULL) is filled at
 * rank 0. Errors: PAC_ECONFIG (a profile of another model, budgets for another number of devices), PAC_ENOMEM (no plan fits). Collective.
 */
pac_err pac_job_plan(pac_job *job, pac_profile *profile, pac_plan *out, pac_plan_answer *answer);
/**
 * Does a plan with its predicted bytes keep to the profile's budgets, and its cache to the disks? Given groups and the paper's planner
 * may not. The profile is as before afterwards. Errors: PAC_ENOMEM (which devices, by how much, what would help: what a simulation says). Not collective.
 */
pac_err pac_job_plan_fits(const pac_job *job, pac_profile *profile, const pac_plan *plan);

typedef struct pac_simulate_opts {
    const char *plan_path;  /* NULL: planned here */
    const char *schedule;   /* 1f1b, gpipe, sequential; NULL: what the runtime runs */
    const char *bytes;      /* ledger: of a dry run; profile: what its layers say (pac/profile.h); NULL: ledger */
    const char *chart_path; /* an SVG file; NULL: none */
} pac_simulate_opts;

typedef struct pac_simulated {
    char *json;    /* of docs/formats.md; freed with pac_mem_free() */
    bool fits;
    bool disk;     /* it is a disk that is too small, not memory */
    char why[2048]; /* not, and what would help; "": it fits */
} pac_simulated;

/**
 * Simulate a job of pac_estimate_open() on the devices of a profile (pac/simulate.h): bytes of a dry run, lengths of the job's data.
 * That nothing fits is a result: then the plan is the one that would be best if memory were no matter. Of a world of one rank.
 * Errors: PAC_ECONFIG (profile, plan and job belong to different models or systems), PAC_EUSAGE (a word of opts), PAC_EIO.
 */
pac_err pac_job_simulate(pac_job *job, pac_profile *profile, const pac_simulate_opts *o, pac_simulated *out);

typedef struct pac_train_opts {
    const char *plan_path, *profile_path; /* NULL: made here */
    int64_t steps;                        /* > 0: stop after that many optimizer steps */
} pac_train_opts;

/** The whole job. *json (rank 0; NULL elsewhere): the result of interface.md; the caller frees it with pac_mem_free(). Collective. */
pac_err pac_job_train(pac_job *job, const pac_train_opts *o, char **json);

/**
 * Metrics of saved adapters (NULL: the untouched backbone) on cfg->task.eval, through stages: the run's plan where output/plan.yaml
 * fits the ranks, else a pipeline of equal parts. Technique, head and task come with the adapters. *json at rank 0. predictions: a
 * file for what each row was answered (docs/formats.md), replaced at the end; NULL: none. Collective.
 */
pac_err pac_eval(const pac_config *cfg, const char *adapters_dir, const char *predictions, const pac_observer *watch, char **json);

typedef struct pac_predict_opts {
    const char *model_dir, *adapters_dir; /* adapters NULL: the untouched backbone, text to text */
    const char *backend;                  /* NULL: auto */
    int64_t max_new;                      /* 0: the task's max_target, else 32 */
    int64_t beams;                        /* of beam search; 0 or 1: greedy */
    const char *logits_path;              /* NULL: not wanted */
    const char *input_path;               /* a file of JSON lines; NULL: lines are typed */
    bool json_lines;                      /* answers are JSON objects, else text */
    /* Both are called on rank 0; an error ends the command. *line: freed with free(), without its end; NULL: there are no more. */
    pac_err (*read_line)(void *user, char **line, size_t *bytes);
    pac_err (*answer)(void *user, const char *line);
    void *user;
} pac_predict_opts;

/**
 * Answer every row of the file, or lines until read_line() ends. Collective. Errors: PAC_EUSAGE, PAC_EDATA, PAC_EIO, PAC_ENOMEM,
 * PAC_ENUMERIC (logits that are not finite), those of the two functions.
 */
pac_err pac_predict(const pac_predict_opts *o, const pac_observer *watch);

typedef struct pac_export_opts {
    const char *model_dir;    /* NULL: the one that the adapters name */
    const char *adapters_dir;
    const char *format;       /* peft, merged */
    const char *out_dir;      /* must not exist, or be empty; it appears as a whole or not at all */
} pac_export_opts;

/**
 * Write what was learned for other tools: LoRA in PEFT's layout, or LoRA and full merged into a Hugging Face model (float32).
 * Rank 0 does it; its memory holds one layer. *json at rank 0. Collective. Errors: PAC_EUSAGE (a technique that cannot be written
 * so, and why), PAC_EDATA (adapters of another model, damaged files), PAC_EIO, PAC_ENOSPACE.
 */
pac_err pac_export(const pac_export_opts *o, const pac_observer *watch, char **json);

/* ---- facts about this process ---- */

typedef struct pac_process_memory { int64_t rss, pss, peak_rss; } pac_process_memory; /* bytes */
/** Resident size now, and its peak since pac_process_reset_peak() (0 where the system does not tell). */
void pac_process_memory_read(pac_process_memory *out);
void pac_process_reset_peak(void);
/**
 * The least of this process's limits, those that several ranks of the node are under divided among them. Memory that an
 * accelerator shares with the host counts once. Collective on the node.
 */
pac_err pac_memory_budget(pac_budget *out);
enum { PAC_CORE_MASK = 128 }; /* bytes of an affinity mask */
/** Cores this process may run on; mask (may be NULL): a bit for each. */
int64_t pac_cores(unsigned char mask[PAC_CORE_MASK]);

#endif
