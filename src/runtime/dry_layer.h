/* One layer of a job as a stage of its own, dry: what its operations and its bytes are, without values (layer_bytes.c,
 * synthetic.c). */
#ifndef PAC_RUNTIME_DRY_LAYER_H
#define PAC_RUNTIME_DRY_LAYER_H

#include "estimate.h"
#include "pac/cluster.h"

typedef struct dry_layer {
    stage *s;
    micro *x;
    pac_plan plan;
    pac_layout layout;
    int64_t *sample; /* rows of the data set: a typical one, then the first of a random order */
    size_t in, out;  /* marks of the micro-batch's arena: behind what was received; behind the forward pass */
} dry_layer;

/** The backend that a dry run counts on: in the place of a device where the run would take one. */
const pac_backend *dry_backend(const pac_config *cfg);
/** A copy of the job that loads no values; pac_mem_dry() is the caller's. Freed with pac_mem_free(). */
pac_err dry_job(const pac_job *job, pac_job **out);
pac_err dry_layer_new(const pac_job *shapes, int64_t layer, dry_layer *out);
void dry_layer_free(dry_layer *d);
/** A micro-batch of the first n samples, with room for what a neighbour sends forward and backward. */
pac_err dry_layer_begin(dry_layer *d, int64_t n);

/**
 * All of a profile but its devices and links, which it makes room for: lengths, bytes of layers and boundaries, of the cached
 * phase. Nothing is loaded. Not collective. The caller frees *out.
 */
pac_err profile_describe(const pac_job *job, int64_t devices, pac_profile *out);

/** The operations of every kind of work, of layers whose bytes p says. Not collective. Freed by pac_work_table_free(). */
pac_err job_work(const pac_job *job, const pac_profile *p, pac_work_table *out);

#endif
