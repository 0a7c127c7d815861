/*
 * A model family = how to read its config.json, which tensors its files hold, and how it embeds. Loading, slicing, counting and
 * random initialisation all follow from the tensor table. A new family is one file and one line in family.c.
 */
#ifndef PAC_MODEL_FAMILY_H
#define PAC_MODEL_FAMILY_H

#include "hf_config.h"

#include "pac/model.h"

/* The weights of a slice that do not belong to one block. */
typedef struct pac_riders {
    const float *embed;      /* [V, D] tokens */
    const float *bias_table; /* [buckets, H], shared by the stack's blocks */
    const float *final_norm; /* [D] */
    const float *head;       /* [V, D], for the last stack */
} pac_riders;

/* Who needs a tensor: one block of its stack, the first, any, the last, or the head. */
typedef enum pac_tensor_scope { PAC_T_BLOCK, PAC_T_FIRST, PAC_T_STACK, PAC_T_LAST, PAC_T_HEAD } pac_tensor_scope;

/* Models that have the tensor: all, or those whose description says so. */
typedef enum pac_tensor_when {
    PAC_WHEN_ALWAYS,
    PAC_WHEN_GATED,
    PAC_WHEN_PLAIN, /* not gated */
    PAC_WHEN_TIED,
    PAC_WHEN_UNTIED,
} pac_tensor_when;

typedef struct pac_tensor_rule {
    pac_tensor_scope scope;
    pac_stack stack;
    pac_tensor_when when;
    const char *name;    /* '#' stands for the block's number in its stack */
    const char *alt;     /* another name that files use, or NULL */
    size_t slot;         /* offset of its pointer in pac_block_weights (PAC_T_BLOCK) or pac_riders */
    const char *dims;    /* size letters: V vocabulary, D model, I heads x head width, F feed-forward, H heads, R buckets */
    const char *divisor; /* random values: deviation = (product of these sizes)^-1/2; letters as above and K head width; "1": 1;
                            NULL: all ones */
} pac_tensor_rule;

struct pac_family {
    const char *name; /* "model_type" of config.json */
    pac_err (*read_config)(const hf_config *c, pac_model_desc *out);
    const pac_tensor_rule *rules; /* ends with name NULL */
    /* x [N, D] = b_0 of the stack; ids are valid. The batch tells positions (its offsets) where a family has them. */
    void (*embed)(const pac_model_desc *d, const pac_backend *be, const pac_riders *w, pac_stack stack, const pac_batch *batch,
                  float *x);
    const char *const *shapes; /* names for pac_model_init(), NULL after the last */
    /* config.json of shapes[i] as text, like snprintf() */
    int (*shape_config)(int i, char *text, size_t size);
};

/** Families by number, NULL behind the last. */
const pac_family *pac_family_at(int i);

extern const pac_family pac_family_t5;

/* ---- the tensors of a slice ---- */

typedef struct pac_tensor_need {
    const pac_tensor_rule *rule;
    char name[160], alt[160];
    int64_t layer; /* number in the whole model (PAC_T_BLOCK), else -1 */
    int ndim;
    int64_t shape[2], n;
    double deviation; /* of random values; 0: all ones */
    bool repeated;    /* the same tensor is already in the list */
} pac_tensor_need;

/**
 * Tensors that layers [first, last) need with their riders, in the order of the rules, block by block. with_head: the head goes
 * with the last layer. The caller frees *out with pac_mem_free().
 */
pac_err pac_tensors_of(const pac_model_desc *d, int64_t first, int64_t last, bool with_head, pac_tensor_need **out,
                       int64_t *count);
/** The head alone. */
pac_err pac_tensors_of_head(const pac_model_desc *d, pac_tensor_need **out, int64_t *count);

#endif
