/*
 * A model family = how to read its config.json and which tensors its files hold. Everything else (loading, slicing, counting,
 * embedding, gradients, random initialisation) follows from the description and the tensor table: a new family is one file and
 * one line in family.c.
 */
#ifndef PAC_MODEL_FAMILY_H
#define PAC_MODEL_FAMILY_H

#include "hf_config.h"

#include "pac/model.h"

#include <stddef.h>

enum { PAC_MAX_WIDTH = 1 << 20, PAC_MAX_VOCAB = 1 << 24 };

/*
 * The weights of a slice that do not belong to one block. A bare table is a pac_linear of which only w and dw are set, so that
 * its slot, too, has its gradient at the distance of PAC_TO_GRADIENT.
 */
typedef struct pac_riders {
    pac_linear embed;      /* [V, D] tokens */
    pac_linear positions;  /* [max_positions + position_offset, D] */
    pac_linear types;      /* [types, D] */
    pac_norm embed_norm;   /* [D] */
    pac_linear bias_table; /* [buckets, H], shared by the stack's blocks */
    pac_norm final_norm;   /* [D] */
    pac_linear head;       /* [V, D] and a bias [V], of the last stack */
} pac_riders;

/* Who needs a tensor: one block of its stack, the first, any, the last, the lm head, or a classification head. */
typedef enum pac_tensor_scope { PAC_T_BLOCK, PAC_T_FIRST, PAC_T_STACK, PAC_T_LAST, PAC_T_HEAD, PAC_T_DENSE } pac_tensor_scope;

/* Models that have the tensor: all, or those whose description says so. */
typedef enum pac_tensor_when {
    PAC_WHEN_ALWAYS,
    PAC_WHEN_GATED,
    PAC_WHEN_PLAIN, /* not gated */
    PAC_WHEN_TIED,
    PAC_WHEN_UNTIED,
} pac_tensor_when;

/* Bits of a rule. */
enum {
    PAC_T_BARE = 1,     /* the name never has a prefix */
    PAC_T_OPTIONAL = 2, /* a file may lack it: its slot is then NULL */
    PAC_T_BUFFER = 4,   /* never learns and is not counted as a parameter */
};

typedef struct pac_tensor_rule {
    pac_tensor_scope scope;
    pac_stack stack;
    pac_tensor_when when;
    const char *names; /* what files call it, ours first, '|' between; '#' stands for the block's number in its stack */
    size_t slot;      /* offset of its pointer in pac_block_weights (PAC_T_BLOCK) or pac_riders (else; not used: PAC_T_DENSE) */
    const char *dims; /* size letters: V vocabulary, D model, I heads x head width, F feed-forward, H heads, R buckets,
                         P positions with their offset, Y token types, 1 */
    const char *values; /* random ones: "=1", "=0": all so; "~": normal with deviation init_std; else normal with deviation
                           (product of these sizes)^-1/2, letters as above and K head width */
    int flags;
} pac_tensor_rule;

struct pac_family {
    const char *name;             /* "model_type" of config.json */
    const char *const *prefixes;  /* of tensor names in files, tried in order, ours first; NULL after the last */
    const pac_tensor_rule *rules; /* ends with names NULL */
    pac_err (*read_config)(const hf_config *c, pac_model_desc *out); /* out holds the defaults of pac_model_describe() */
    const char *const *shapes;                                       /* names for pac_model_init(), NULL after the last */
    /* config.json of shapes[i] as text, like snprintf() */
    int (*shape_config)(int i, char *text, size_t size);
};

/**
 * The text of a config.json: of a shape that a family knows by name, or of a file. The caller frees *text. Errors: PAC_EUSAGE
 * (unknown shape; lists those known), those of reading.
 */
pac_err pac_family_config_text(const char *shape_or_config, char **text, size_t *bytes);

/** Families by number, NULL behind the last. */
const pac_family *pac_family_at(int i);

extern const pac_family pac_family_t5, pac_family_bart, pac_family_bert, pac_family_distilbert;

/* ---- reading what several families share ---- */

/* The activation that `key` names; absent: gelu. */
pac_err pac_family_act(const hf_config *c, const char *key, pac_act *out);
/* Heads and their width from `key`, for a model of width b->D; scores are scaled by K^-1/2. */
pac_err pac_family_heads(const hf_config *c, const char *key, pac_block_cfg *b);
/* Fails, saying what is supported instead, where the boolean `key` is not `supported`. */
pac_err pac_family_only(const hf_config *c, const char *key, bool supported);

/* ---- the tensors of a slice ---- */

/* Where a loaded slice has a tensor's values. */
typedef enum pac_tensor_home { PAC_AT_NOWHERE, PAC_AT_FILE, PAC_AT_COPY, PAC_AT_PACKED, PAC_AT_SHELF, PAC_AT_OWNER } pac_tensor_home;

typedef struct pac_tensor_need {
    const pac_tensor_rule *rule;
    char name[160]; /* canonical */
    int64_t block;  /* number in its stack (PAC_T_BLOCK), else 0 */
    pac_layer_span use;
    int ndim;
    int64_t shape[2], n;
    double deviation, all; /* random values: normal with this deviation; 0: all of them are `all` */
    bool repeated;         /* the same tensor is already in the list */
    pac_tensor_home home;  /* of the slice's loader */
} pac_tensor_need;

/* Beside the blocks of a slice that ends with the last layer (or is empty there): the lm head, a classification head's dense.
 */
enum { PAC_TENSORS_HEAD = 1, PAC_TENSORS_DENSE = 2 };

/**
 * Tensors that layers [first, last) need with their riders, in the order of the rules, block by block. The caller frees *out
 * with pac_mem_free().
 */
pac_err pac_tensors_of(const pac_model_desc *d, int64_t first, int64_t last, int parts, pac_tensor_need **out, int64_t *count);
/** Is it a matrix that a model of d->dtype bf16 holds packed? */
bool pac_tensor_packs(const pac_model_desc *d, const pac_tensor_need *t);
/** Does a streamed slice hold it only now and then: blocks, the token embedding, the head? */
bool pac_tensor_streams(const pac_tensor_need *t);
/** Is it the weight of products: a matrix of a block, or the head's? */
bool pac_tensor_multiplies(const pac_tensor_need *t);
/** Bytes that a slice holds it in, but for padding. */
int64_t pac_tensor_bytes(const pac_model_desc *d, const pac_tensor_need *t);
/** The k-th name that files may use for it, the canonical one first; false behind the last. */
bool pac_tensor_name(const pac_model_desc *d, const pac_tensor_need *t, int k, char *out, size_t size);

#endif
