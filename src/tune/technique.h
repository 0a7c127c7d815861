/*
 * Inside src/tune: a technique = which parameters are new (a walk over them in canonical order), and how they hang on the
 * layers. Layout, counts, initial values, slicing and files all follow from the walk. A new technique is one file and one row
 * in tuned.c.
 */
#ifndef PAC_TUNE_TECHNIQUE_H
#define PAC_TUNE_TECHNIQUE_H

#include "pac/tune.h"

#include <math.h>
#include <stddef.h>

/* One parameter of the whole network, as the walk meets it. */
typedef struct tune_item {
    pac_param param;
    double deviation; /* initial values: normal with this deviation, */
    float constant;   /* or, where it is 0, this */
    bool from_model;  /* or what pac_tuned_attach() copied */
    int64_t layer;    /* of the slot, in the whole model (where the scope has one) */
    pac_stack stack;
    int scope;   /* of the technique's own rules */
    size_t slot; /* offset of its pointer in the struct that the scope names */
} tune_item;

typedef pac_err tune_visitor(void *ctx, const tune_item *item);

/* All but name and walk may be NULL. */
typedef struct technique {
    const char *name;
    bool through; /* the backward pass goes through the backbone */
    pac_err (*check)(const pac_model_desc *d, const pac_tune_opts *o);
    pac_err (*walk)(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx);
    pac_err (*make)(pac_tuned *t);                       /* what its parameters are connected to */
    void *(*place)(pac_tuned *t, const tune_item *item); /* the struct that holds the item's slot; NULL: attach connects */
    pac_err (*attach)(pac_tuned *t, pac_model *m);       /* hang it on a loaded slice */
    void (*done)(pac_tuned *t);
} technique;

extern const technique pac_technique_parallel, pac_technique_full, pac_technique_adapters, pac_technique_lora;

/* The classification head: [0] dense [D, D], [1] projection [C, D or 4D]. */
typedef struct cls_head {
    pac_linear dense, out;
} cls_head;

struct pac_tuned {
    const technique *how;
    pac_model_desc desc;
    pac_tune_opts opts;
    const pac_backend *be;
    int64_t first, last; /* layers of the slice */
    pac_params params;
    cls_head head;
    pac_side *side; /* parallel */
    void *modules;  /* of lora and adapters */
};

enum { SCOPE_HEAD = 1000 }; /* of the head's items; techniques' own scopes are below */

/** Deviation of torch.nn.Linear's first weights, kaiming_uniform(sqrt(5)): variance 1 / (3 inputs). */
static inline double linear_deviation(int64_t inputs)
{
    return 1 / sqrt(3.0 * (double)inputs);
}

/** Every item of the whole network: the technique's, then the head's. */
pac_err tune_walk_items(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx);
pac_err head_walk(const pac_model_desc *d, const pac_tune_opts *o, tune_visitor *visit, void *ctx);
const technique *technique_of(const pac_tune_opts *o);

/** The stack of a layer and its number there. */
pac_stack stack_of_layer(const pac_model_desc *d, int64_t layer, int64_t *index);

#endif
