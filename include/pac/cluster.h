/*
 * Devices that are not here: a cluster file (docs/formats.md; `--devices`) names devices by type or by numbers, and their
 * network. With the operations and bytes of a model's layers it becomes a profile, which planner and simulator take like a
 * measured one.
 */
#ifndef PAC_CLUSTER_H
#define PAC_CLUSTER_H

#include "pac/profile.h"

typedef struct pac_machine {
    char name[64], type[64];      /* type "": described in the cluster file itself */
    double peak;                  /* FLOP/s that the data sheet promises; only checked against, 0: not known */
    double flops, flops_backward; /* FLOP/s of large products in the forward and in the backward pass */
    double half_size;             /* smallest extent at which a product has half of its rate: rate(n) = flops n / (n + half_size) */
    double memory;                /* bytes that the program may use (shared by CPU and GPU where they share) */
    double memory_bandwidth;      /* bytes/s */
    double launch;                /* seconds of an operation beside its work (starting a kernel) */
    double overhead;              /* seconds of a micro-batch, in each direction */
    double block_overhead;        /* seconds of a backbone layer for every micro-batch, beside what its operations take; */
    double block_overhead_backward;
    double side_overhead; /* of a side layer */
    double side_overhead_backward;
    double disk_write, disk_read; /* bytes/s; 0: not known */
    double disk_space;            /* bytes; 0: not known */
    double port;                  /* bytes/s of its own network interface; 0: as the network */
} pac_machine;

typedef struct pac_cluster {
    int64_t devices;
    pac_machine *machine;        /* [devices] */
    double *bandwidth, *latency; /* [devices * devices] bytes/s, seconds */
    double gradient_bytes;       /* of a gradient's element in an all-reduce; 0: 4 */
    bool plain_cross;            /* the program there makes keys and values of every source row (pac_cross_force()) */
    double *port;                /* [devices] bytes/s of a full-duplex port that all links of a device share; 0: none */
} pac_cluster;

/**
 * Read a cluster file; `type: NAME` is looked up as NAME.yaml in the folder devices/ beside the cluster file's folder, then in
 * PAC_DEVICES (environment), then in the source's and the installed experiments/devices/. Errors: PAC_ECONFIG with file, line
 * and the nearest known key or type, PAC_EIO, PAC_EDATA (larger than any cluster file).
 */
pac_err pac_cluster_read(const char *path, pac_cluster *out);
void pac_cluster_free(pac_cluster *c);

/* An operation, `count` of which a kind of work has (a mean over layers, so no whole number). */
typedef struct pac_work_op {
    double flop;   /* of a product or attention; else 0 */
    double bytes;  /* that it reads and writes: weights and activations cross the memory bus once each */
    double extent; /* the smallest of its product */
    double count;
} pac_work_op;

/* The operations of one kind of work at so many tokens, in one direction; equal ones are one entry. */
typedef struct pac_work {
    int64_t count, capacity;
    void *op; /* pac_work_op[count] */
} pac_work;

/** times > 0: so many more of an operation; < 0: fewer. Errors: PAC_ENOMEM. */
pac_err pac_work_add(pac_work *w, double flop, double bytes, double extent, double times);
/** All of `from`, `times` each. */
pac_err pac_work_join(pac_work *w, const pac_work *from, double times);
void pac_work_free(pac_work *w);
double pac_work_flop(const pac_work *w);
double pac_work_bytes(const pac_work *w);
/** Seconds on a machine: sum of launch + max(flop / rate(extent), bytes / memory_bandwidth). */
double pac_work_time(const pac_machine *m, const pac_work *w, bool backward);

/* Kinds of work at several numbers of tokens. */
typedef struct pac_work_table {
    int64_t points;
    double tokens[PAC_COST_NKINDS][PAC_MAX_POINTS]; /* 0: the model has no such work */
    pac_work fwd[PAC_COST_NKINDS][PAC_MAX_POINTS], bwd[PAC_COST_NKINDS][PAC_MAX_POINTS];
    double update_bytes; /* that clipping and the optimizer move for each byte of learning parameters */
} pac_work_table;
void pac_work_table_free(pac_work_table *t);

/**
 * Devices and links of p from the cluster; p's arrays are there for as many devices, all else of p is left alone. Errors:
 * PAC_EINVAL (another number of devices).
 */
pac_err pac_cluster_profile(const pac_cluster *c, const pac_work_table *t, pac_profile *p);

#endif
