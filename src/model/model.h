/* A loaded slice of the backbone. */
#ifndef PAC_MODEL_MODEL_H
#define PAC_MODEL_MODEL_H

#include "family.h"

#include "pac/safetensors.h"

struct pac_model {
    pac_model_desc desc;
    const pac_backend *be;
    int64_t first, last; /* layers */
    pac_st *files;       /* the mapping that f32 weights point into */
    int64_t mapped;      /* bytes of it that the ledger counts */
    void **converted;    /* weights that could not be used in place */
    int64_t nconverted, converted_capacity;
    pac_block_weights *blocks; /* [last - first] */
    pac_riders riders[2];
};

#endif
