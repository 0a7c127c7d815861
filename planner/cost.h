/*
 * What layers, stages and links cost according to a profile. Shared by every planner; all pure.
 */
#ifndef PAC_PLANNER_COST_H
#define PAC_PLANNER_COST_H

#include "pac/bytes.h"
#include "pac/plan.h"

static inline int64_t pac_profile_layers(const pac_profile *p)
{
    return p->layers_enc + p->layers_dec;
}

/** What every planner asks of a request. Errors: PAC_EINVAL. */
pac_err pac_request_check(const pac_plan_request *q, int64_t most_layers);

/** Whether so many ranks a stage and stages have room for every device. Errors: PAC_EINVAL. */
pac_err pac_request_check_room(const pac_plan_request *q);

/** Kinds of work of a layer. A layer in which nothing learns has no side layer (technique.layers: a list). */
int pac_layer_kinds(const pac_profile *p, int64_t layer, pac_cost_kind kinds[static 4]);

/** Seconds of one direction of `layer` with its riders (embedding, head) on a device at `samples` samples. */
double pac_layer_time(const pac_profile *p, int64_t device, int64_t layer, double samples, bool backward);

/** The same for so many tokens of source and target. */
double pac_layer_time_at(const pac_profile *p, int64_t device, int64_t layer, double source, double target, bool backward);

/** pac_layer_time() summed over layers [first, last). */
double pac_stage_time(const pac_profile *p, int64_t device, int64_t first, int64_t last, double samples, bool backward);

/** Seconds of one direction of the side network and head at so many tokens: what remains of a step once the backbone is cached.
 */
double pac_side_time_at(const pac_profile *p, int64_t device, double source, double target, bool backward);

/** Bytes summed over layers [first, last); activations per sample. */
pac_layer_bytes pac_stage_bytes(const pac_profile *p, int64_t first, int64_t last);

/** Bytes of parameters: frozen weights, what learns, its gradients and its optimizer states. */
double pac_parameter_bytes(const pac_profile *p, const pac_layer_bytes *b);

/** Lowest bandwidth and highest latency from any of `from` to any other of `to`. */
typedef struct pac_link_cost {
    double bandwidth, latency;
} pac_link_cost;
pac_link_cost pac_slowest_link(const pac_profile *p, const int64_t *from, int64_t nfrom, const int64_t *to, int64_t nto);

/** Bytes that cross the network for so many bytes of float32 gradients. */
double pac_wire_bytes(const pac_profile *p, double bytes);

/** Ring all-reduce of `bytes` of gradients over the slowest link between the ranks: 2 (n-1) rounds of 1 / n. 0 for one rank. */
double pac_allreduce_time(const pac_profile *p, const int64_t *ranks, int64_t n, double bytes);

/**
 * Pieces that a sum of so many bytes of gradients is cut into, each started when the last backward has completed it: those of
 * the request's bucket, at most PAC_MOST_PIECES, which is fine enough for times.
 */
enum { PAC_MOST_PIECES = 8 };
int64_t pac_reduce_pieces(const pac_plan_request *q, double bytes);

/** What of pac_allreduce_time() is left behind a last backward of so many seconds. */
double pac_reduce_behind(const pac_profile *p, const pac_plan_request *q, const int64_t *ranks, int64_t n, double bytes,
                         double backward);

#endif
