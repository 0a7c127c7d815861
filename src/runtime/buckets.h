/*
 * Sums of gradients in buckets, each started as soon as the last backward of a mini-batch has completed it, behind the layers
 * that are still to come.
 */
#ifndef PAC_RUNTIME_BUCKETS_H
#define PAC_RUNTIME_BUCKETS_H

#include "pac/parallel.h"
#include "pac/runtime.h"

/* A range of the flat gradient that is summed in one piece: complete once the backward is through layer `ready`. */
typedef struct bucket {
    int64_t at, n, ready;
} bucket;

typedef struct buckets {
    pac_comm *group;
    pac_params *params;
    pac_sums *sums; /* NULL: buckets are not used */
    int64_t count, capacity, started;
    void *v;         /* bucket[count], in the order of the backward */
    bool overlap;    /* start them early (train.overlap) */
    bool last;       /* the backward at work is the last of its mini-batch */
    pac_watch watch; /* tells the buckets; for stages */
} buckets;

/**
 * Cut the flat gradient of layers [first, last) into buckets of train.bucket bytes or one parameter, from its end on. The same
 * ones with and without train.overlap, so that both give the same bits. *b must stay where it is. None where a group has one
 * member, or gradients lie where the host cannot reach. Not collective. Errors: PAC_ENOMEM.
 */
pac_err buckets_open(const pac_job *job, pac_comm *group, pac_params *p, int64_t first, int64_t last, buckets *b);
void buckets_close(buckets *b);
/** For the passes of training: messages move on behind each layer, sums are started. NULL in a world of one. */
const pac_watch *buckets_watch(const buckets *b);
/** The backward that comes is the last of this mini-batch. */
void buckets_last(buckets *b);
/** Sum what is not yet summed, wait for all; *done false: buckets are not used. Collective on the group. */
pac_err buckets_finish(buckets *b, bool *done);

#endif
