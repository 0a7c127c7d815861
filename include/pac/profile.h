/*
 * Profiles: what planner and simulator know of the devices, measured (pac profile) or derived from descriptions of devices that
 * are not here (pac/cluster.h). Pure data, and the file that holds it (YAML, documented in docs/formats.md).
 */
#ifndef PAC_PROFILE_H
#define PAC_PROFILE_H

#include "pac/mem.h"

#include <stdbool.h>

enum { PAC_MAX_DEVICES = 256, PAC_SHAPE_TEXT = 160, PAC_SETTING_TEXT = 48 };

/* Kinds of work whose time is measured. A stage's time is a sum of them; layers of equal shape share one measurement. */
typedef enum pac_cost_kind {
    PAC_COST_ENC_BLOCK, /* backbone encoder block, forward (and backward, where gradients go through the backbone) */
    PAC_COST_DEC_BLOCK,
    PAC_COST_ENC_EMBED,
    PAC_COST_DEC_EMBED,
    PAC_COST_HEAD,     /* head and loss; its backward to its input counts as forward, since it runs at once */
    PAC_COST_ENC_SIDE, /* side layer, forward and backward */
    PAC_COST_DEC_SIDE,
    PAC_COST_NKINDS
} pac_cost_kind;

enum { PAC_MAX_POINTS = 16 };

/*
 * Tokens: rows of the source for the encoder's kinds, of source and target for the decoder's blocks and sides, of the target
 * for the rest (the head of a model without a decoder: of the source).
 */
typedef struct pac_cost_curve {
    int64_t points;
    double tokens[PAC_MAX_POINTS]; /* of a batch, increasing */
    double fwd[PAC_MAX_POINTS];    /* seconds */
    double bwd[PAC_MAX_POINTS];
    double spread; /* of the repeats: (median - fastest) / fastest at the worst point; 0: not measured */
} pac_cost_curve;

/**
 * Seconds at so many tokens by linear interpolation between the points and the origin; proportional beyond the last point. So 0
 * at 0 tokens and with no points.
 */
double pac_cost_at(const pac_cost_curve *c, double tokens, bool backward);

/** The tokens that count for a kind of work, of a batch with so many rows of source and target. */
double pac_cost_tokens(pac_cost_kind kind, double source, double target);

typedef struct pac_device {
    char name[64];                /* host:rank, or the name in a cluster file */
    char interface[32];           /* network interface in use, "" not known */
    double memory;                /* budget in bytes that the ledger may reach */
    double disk_write, disk_read; /* bytes per second in the cache's directory, 0: not measured */
    double disk_space;            /* bytes free there, 0: not known */
    double port;     /* bytes/s of its full-duplex network port, shared by all its links; 0: no limit but the links' */
    double update;   /* seconds per byte of learning parameters: clipping and the optimizer's step */
    double overhead; /* seconds of a micro-batch, in each direction, whatever its size */
    pac_cost_curve cost[PAC_COST_NKINDS];
} pac_device;

/* Bytes per layer, equal on every device. */
typedef struct pac_layer_bytes {
    double weights, tuned; /* frozen weights; learning parameters (gradients take as much again, AdamW twice) */
    double activations;    /* kept from forward to backward, per sample of mean length */
    double work;           /* scratch while the layer runs, per sample; the largest of a stage counts */
    double shared;         /* part of weights that every layer naming it has in common (the embedding): once per stage */
    double shared_tuned;   /* likewise of tuned (full fine-tuning) */
} pac_layer_bytes;

typedef struct pac_profile {
    char model[128], technique[32], optimizer[16];
    char derived[128];          /* the cluster file that the times follow from; "": they were measured */
    char shape[PAC_SHAPE_TEXT]; /* of the model, and the technique with the number that sets its size, in words; "": a file */
    char setting[PAC_SETTING_TEXT]; /* of an earlier version */
    char path[256];                 /* the file it was read from, for messages; not in the file */
    int64_t layers_enc, layers_dec;
    double source_tokens, target_tokens; /* mean lengths per sample */
    int64_t max_source, max_target;      /* task.max_source and task.max_target; 0: not known */
    double optimizer_states;             /* bytes of optimizer state per byte of learning parameters: 0 SGD, 2 AdamW */
    double gradient_bytes;               /* of a gradient's element in an all-reduce; 0: 4, as the runtime sends them */
    bool bytes_given;       /* activations are others' (--activations): no dry run overrules them; not in the file */
    double fixed;           /* bytes on every device whatever its stage: data set, maps */
    pac_layer_bytes *layer; /* [L]; riders (embedding, head, norms) included in the layer they ride with */
    double *boundary_fwd, *boundary_bwd; /* [L + 1] bytes per sample that cross in front of layer i */
    int64_t devices;
    pac_device *device;
    double *bandwidth, *latency;   /* [devices * devices] bytes/s and seconds, [i * devices + j] from i to j */
    double cache_row;              /* bytes of a row [D] in the cache, which follow from cache.dtype; 0: not known */
    double cached_step_bytes_read; /* bytes of the cache per sample, written once and read in every cached epoch */
    double cached_fixed,
        cached_sample; /* bytes of a device in the cached phase: parameters and buffers; per sample of its part */
} pac_profile;

pac_err pac_profile_read(const char *path, pac_profile *out);
pac_err pac_profile_write(const pac_profile *p, const char *path);
void pac_profile_free(pac_profile *p);

/** Zeroed arrays for so many layers and devices; p->devices is set, the rest stays. The caller frees, also after an error.
 * Errors: PAC_ENOMEM. */
pac_err pac_profile_alloc(int64_t layers, int64_t devices, pac_profile *p);

#endif
