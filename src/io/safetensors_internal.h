/* What the reader of one file (safetensors_file.c), the list of tensors (safetensors.c) and the writer share. */
#ifndef PAC_IO_SAFETENSORS_INTERNAL_H
#define PAC_IO_SAFETENSORS_INTERNAL_H

#include "pac/mem.h"
#include "pac/safetensors.h"

#include <jansson.h>

typedef struct pac_st_shard {
    char *path;
    char *map;
    size_t bytes;
} pac_st_shard;

typedef struct pac_st_item {
    const char *name; /* in the arena */
    pac_tensor tensor;
    int64_t shard;
    uint64_t begin, end; /* in the file's data */
} pac_st_item;

typedef struct pac_st_pair {
    const char *key, *value; /* in the arena */
} pac_st_pair;

struct pac_st {
    pac_arena *arena;
    pac_st_shard *shards;
    pac_st_item *items;          /* by shard, then by place in the file */
    const pac_st_item **by_name; /* [count] sorted */
    pac_st_pair *metadata;
    int64_t nshards, count, nmetadata;
    int64_t shards_capacity, items_capacity, metadata_capacity;
};

/** Map a file, check it wholly and append its tensors. On failure `f` can only be closed. Errors: PAC_EIO, PAC_EDATA,
 * PAC_ENOMEM. */
pac_err pac_st_add_shard(pac_st *f, const char *path);

/** "F32", "BF16", ... of a type; NULL: the format has no name for it. */
const char *pac_st_type_name(pac_dtype t);
bool pac_st_type_find(const char *name, pac_dtype *out);

#endif
