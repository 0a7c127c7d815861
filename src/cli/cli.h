/*
 * The command line: the only room that prints to people and decides the exit status. A command is one file cmd_<name>.c and one row of
 * the table in commands.c; an option is one row of the table in args.c.
 */
#ifndef PAC_CLI_H
#define PAC_CLI_H

#include "pac/runtime.h"

#include <stdbool.h>
#include <stdint.h>

enum { MAX_SETS = 64, MAX_WORDS = 1024 };

typedef struct pac_args {
    bool help, quiet, json, resume;
    const char *sets[MAX_SETS]; /* --set key.path=value */
    int64_t nsets;
    const char *words[MAX_WORDS]; /* what is no option: RUN.yaml, SHAPE DIR, info|verify DIR, RUN... */
    int64_t nwords;
    const char *output, *plan, *profile, *devices, *adapters, *model, *input, *logits, *predictions, *backend, *format, *shape, *technique, *schedule, *bytes;
    int64_t steps, beams, max_new, seed, batch, source, target, rows, activations;
} pac_args;

typedef struct command {
    const char *name, *summary, *usage, *examples;
    const char *options;             /* names of the options it takes, separated by spaces */
    pac_err (*run)(const pac_args *); /* NULL: not built yet */
    bool mpi;                        /* starts MPI: may run on several ranks */
    int64_t min_words, max_words;
} command;

extern const command commands[]; /* name NULL after the last */
const command *find_command(const char *name);

/** Parse argv[2..] for a command. Errors: PAC_EUSAGE, PAC_ENOTBUILT. */
pac_err parse_args(const command *c, int argc, char **argv, pac_args *out);

void print_help(void);
void print_command_help(const command *c);
void print_version(void);

/* Progress on a terminal, log lines on standard error; rank 0 only. */
void print_setup(bool quiet);
pac_observer print_observer(void);
void print_clear_progress(void);
/** Is what is to be written a file that is read (c: NULL without a configuration)? Errors: PAC_EUSAGE. Not collective. */
pac_err keep_inputs(const pac_args *a, const pac_config *c);

/** Print a result: as JSON on standard output with --json, else through `table`. */
void print_result(const pac_args *a, const char *json, void (*table)(const char *json));
/** Everything printed so far reaches standard output. Errors: PAC_ENOSPACE, PAC_EIO; once it failed, so do later calls. */
pac_err print_flush(void);

/** RUN.yaml, read on rank 0 (one device needs the file) and sent to all. Collective. */
pac_err read_config(const pac_args *a, pac_config *c);

/** --activations BYTES: a sample's over all layers, evenly, instead of pac's own; nothing without it. */
void take_activations(const pac_args *a, pac_profile *profile);

/** --devices FILE: the job, without weights or data, and the profile of devices that are not here; the caller frees both. */
pac_err open_described(const pac_args *a, const pac_config *cfg, pac_job **job, pac_profile *profile);

/** --profile FILE in one process: likewise, of devices that were measured or derived once; the caller frees both, also after an error. */
pac_err open_measured(const pac_args *a, const pac_config *cfg, pac_job **job, pac_profile *profile);

pac_err cmd_train(const pac_args *a);
pac_err cmd_profile(const pac_args *a);
pac_err cmd_plan(const pac_args *a);
pac_err cmd_simulate(const pac_args *a);
pac_err cmd_estimate(const pac_args *a);
pac_err cmd_eval(const pac_args *a);
pac_err cmd_predict(const pac_args *a);
pac_err cmd_export(const pac_args *a);
pac_err cmd_init_model(const pac_args *a);
pac_err cmd_cache(const pac_args *a);
pac_err cmd_report(const pac_args *a);
pac_err cmd_info(const pac_args *a);

#endif
