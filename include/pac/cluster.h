/*
 * Devices that are not here: a cluster file (docs/formats.md; `--devices`) names devices by type or by numbers, and their network.
 * With the operations and bytes of a model's layers it becomes a profile, which planner and simulator take like a measured one.
 */
#ifndef PAC_CLUSTER_H
#define PAC_CLUSTER_H

#include "pac/profile.h"

typedef struct pac_machine {
    char name[64], type[64];
    double flops;                 /* achieved FLOP/s of large forward products; what a datasheet promises is `peak` in the description */
    double flops_backward;        /* likewise backward; 0: as forward */
    double half_tokens;           /* tokens at which a product reaches half of its rate: rate(n) = flops n / (n + half_tokens) */
    double memory;                /* bytes that the program may use (shared by CPU and GPU where they share) */
    double memory_bandwidth;      /* bytes/s */
    double overhead;              /* seconds of a micro-batch, in each direction */
    double disk_write, disk_read; /* bytes/s; 0: not known */
    double disk_space;            /* bytes; 0: not known */
} pac_machine;

typedef struct pac_cluster {
    int64_t devices;
    pac_machine *machine;        /* [devices] */
    double *bandwidth, *latency; /* [devices * devices] bytes/s, seconds */
    double *port;                /* [devices] bytes/s, 0: not shared */
} pac_cluster;

/**
 * Read a cluster file; `type: NAME` is looked up as NAME.yaml in the folder devices/ beside the cluster file's folder, then in
 * PAC_DEVICES (environment), then in the installed or source experiments/devices/. Errors: PAC_ECONFIG with file, line and the
 * nearest known key, PAC_EIO.
 */
pac_err pac_cluster_read(const char *path, pac_cluster *out);
void pac_cluster_free(pac_cluster *c);

/* Operations and bytes moved by one kind of work, at so many tokens, from shapes. */
typedef struct pac_work {
    double flop_fwd, flop_bwd;   /* of one batch */
    double bytes_fwd, bytes_bwd; /* weights and activations that cross the memory bus */
} pac_work;

/**
 * Times of the cluster's devices: p's layers, bytes and boundaries are filled, its devices and links are not. work[kind][i] belongs to
 * tokens[kind][i], points of them. A time is max(flop / rate(tokens), bytes / memory_bandwidth). Errors: PAC_ENOMEM, PAC_EINVAL.
 */
pac_err pac_cluster_profile(const pac_cluster *c, const pac_work *const work[PAC_COST_NKINDS], const double *const tokens[PAC_COST_NKINDS],
                            int64_t points, pac_profile *p);

#endif
