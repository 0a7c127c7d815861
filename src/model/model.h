/* A loaded slice of the backbone. */
#ifndef PAC_MODEL_MODEL_H
#define PAC_MODEL_MODEL_H

#include "family.h"

#include "pac/safetensors.h"

/* Layers that are resident only while they are at work (stream.h). */
typedef struct pac_stream pac_stream;

struct pac_model {
    pac_model_desc desc;
    const pac_backend *be;
    int64_t first, last;    /* layers */
    pac_tensor_need *needs; /* what it holds, and where */
    int64_t count;
    pac_st *files;      /* the mapping that f32 weights point into; NULL: none does */
    pac_stream *stream; /* NULL: all of them stay resident */
    int64_t mapped;     /* bytes of it that weights occupy, but for streamed ones, and */
    bool uncounted;     /* does the ledger not count them? (PAC_LOAD_TAKEN) */
    void *nowhere;      /* with PAC_LOAD_SHAPES: addresses that cannot be read */
    size_t nowhere_bytes;
    pac_block_weights *blocks; /* [last - first] */
    pac_riders riders[2];
};

/** Where the slice keeps the address of a tensor; its gradient's is PAC_TO_GRADIENT bytes behind. */
const float **pac_model_slot(pac_model *m, const pac_tensor_need *need);
/** The same of its packed values (the slot of a pac_linear). */
const pac_packed **pac_model_packed(pac_model *m, const pac_tensor_need *need);
/** Look `need` up under each of its names and check it; t->data NULL: it may be absent, and is. */
pac_err pac_model_find(const pac_st *files, const pac_model_desc *d, const pac_tensor_need *need, pac_tensor *t);
/** Bytes of the mapping come to the ledger, or leave it. */
void pac_model_account(const pac_model *m, int64_t delta);
/** Has the linear, or table, values, plain or packed? */
static inline bool pac_has_values(const pac_linear *w)
{
    return w->w != NULL || w->packed != NULL;
}
/** Close the files once no weight lies in them. */
void pac_model_settle(pac_model *m);

#endif
