/* How long a piece of work takes, repeated until that is known (meter.c). */
#ifndef PAC_RUNTIME_METER_H
#define PAC_RUNTIME_METER_H

#include "pac/runtime.h"

enum { FWD, BWD }; /* the two directions of what is measured */

typedef struct meter {
    const pac_observer *watch;
    bool cpu;          /* runs are timed by processor time */
    double round;      /* seconds that a round of repeats lasts at least */
    double wall, used; /* seconds of all rounds, and processor time in them */
    double spent[2];   /* in each direction by the runs of this round */
    float *other;      /* [others] stands for what other layers leave in the processor's caches */
    int64_t others;
    float sum;           /* of it */
    int64_t done, total; /* measurements */
    double started;
} meter;

/** `bytes` of other data go through the caches before each run, up to a bound; `total` measurements are to come. */
pac_err meter_new(const pac_observer *watch, int64_t bytes, int64_t total, meter *out);
void meter_free(meter *m);

/** Begin of a timed part of a run, with cold caches; meter_stop() adds it to a direction. */
double meter_start(meter *m);
void meter_stop(meter *m, int direction, double started);

/**
 * Run the work, which times its parts, until its seconds in each direction are known: out[FWD], out[BWD]; *spread: (median -
 * fastest) / fastest of the rounds. Errors: those of the work.
 */
pac_err meter_repeat(meter *m, pac_err (*run)(void *ctx), void *ctx, double out[2], double *spread);

/** What all times are to be multiplied with, once everything is measured. */
double meter_scale(const meter *m);

#endif
