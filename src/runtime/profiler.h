/* What the profiler measures on this device: times (profiler_time.c) and the disk
 * (profiler_disk.c). Bytes are described, not measured (dry_layer.h). */
#ifndef PAC_RUNTIME_PROFILER_H
#define PAC_RUNTIME_PROFILER_H

#include "train.h"

/* What is being measured on this rank. */
typedef struct bench {
    pac_job *job;
    pac_device *device;
    pac_arena *keep, *work;
    double round; /* seconds that a round of repeats lasts at least */
    int64_t points;
    int64_t batch[PAC_MAX_POINTS]; /* samples of each point */
    int64_t *sample;               /* rows of the data set in a random order; points take them from the front */
    int64_t done, total;           /* measurements, for progress */
    double started;
} bench;

/** Times of every kind of layer, of the optimizer and of a micro-batch's overhead, into device. Not collective. */
pac_err profile_times(pac_job *job, pac_device *device);

/**
 * Speed and room of the disk under cache.dir, into device; a directory that cannot be written to leaves zeros and a warning.
 * Takes about a second and at most 64 MiB. Not collective.
 */
pac_err profile_disk(const pac_config *c, pac_device *device);

/** 0 without a side network. */
int64_t profile_side_width(const pac_job *job);

#endif
