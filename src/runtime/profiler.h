/* What the profiler measures on this device: times (profiler_time.c) and the disk
 * (profiler_disk.c). Bytes are described, not measured (dry_layer.h). */
#ifndef PAC_RUNTIME_PROFILER_H
#define PAC_RUNTIME_PROFILER_H

#include "train.h"

/** Times of every kind of layer, of the optimizer and of a micro-batch's overhead, into device. Not collective. */
pac_err profile_times(pac_job *job, pac_device *device);

/**
 * Speed and room of the disk under cache.dir, into device; a directory that cannot be written to leaves zeros and a warning.
 * Takes about a second and at most 64 MiB. Not collective.
 */
pac_err profile_disk(const pac_config *c, pac_device *device);

#endif
