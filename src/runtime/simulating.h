/* The parts of a simulated job: what it is made of (simulating.c) and what is reported (simulating_json.c). */
#ifndef PAC_RUNTIME_SIMULATING_H
#define PAC_RUNTIME_SIMULATING_H

#include "fits.h"

#include "pac/runtime.h"
#include "pac/simulate.h"

typedef struct simulating {
    pac_job *job;
    pac_profile *profile;
    const pac_simulate_opts *o;
    pac_plan plan;
    char note[PAC_PLAN_NOTE]; /* of the planner, beside its plan */
    pac_plan_request run;
    bool model_bytes;                     /* those of the cost model, not of a dry run: */
    pac_sim_bytes bytes[PAC_MAX_DEVICES]; /* of a mini-batch */
    double peak[PAC_MAX_DEVICES];         /* of the whole run */
    pac_lengths lengths;                  /* of the first mini-batches; samples 0: there is no data */
    double *tokens;                       /* what they are kept in */
    pac_sim_request q;
    pac_simulation s;
    bool disk;          /* it is a disk that is too small */
    char why[FITS_WHY]; /* it does not fit; "": it does */
    bool no_plan;       /* none fits: the plan shown is made as if memory were no matter */
} simulating;

/** The JSON object of docs/formats.md; the caller frees it with pac_mem_free(). */
pac_err simulating_json(const simulating *x, char **json);

/** Schedules by name: "1f1b", "gpipe", "sequential". Errors: PAC_EUSAGE. */
pac_err simulating_schedule(const char *name, pac_sim_schedule *out);
const char *simulating_schedule_name(pac_sim_schedule s);

#endif
