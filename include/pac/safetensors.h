/*
 * safetensors: memory-mapped reader with every bound checked, and a writer that replaces files atomically.
 * Source: huggingface/safetensors format description (u64 header size, JSON header, raw little-endian data).
 */
#ifndef PAC_SAFETENSORS_H
#define PAC_SAFETENSORS_H

#include "pac/tensor.h"

#include <stdbool.h>

typedef struct pac_st pac_st; /* one file, or all shards of a directory's index */

/** Open one file. Errors: PAC_EIO, PAC_EDATA (file, place, reason). Not collective. */
pac_err pac_st_open(const char *path, pac_st **out);
/** Open model.safetensors of a directory, or the shards named by model.safetensors.index.json. */
pac_err pac_st_open_dir(const char *dir, pac_st **out);
/** Unmap; views become invalid. */
void pac_st_close(pac_st **f);

int64_t pac_st_count(const pac_st *f);
const char *pac_st_name(const pac_st *f, int64_t i);
/**
 * View of tensor i / of a named tensor (*found false if absent). data points into the mapping, read-only, and is aligned to its
 * element in files of the usual writers, ours included, but the format does not promise it: check before use in place.
 * The ledger does not know the mapping: who reads the pages accounts for them.
 */
void pac_st_view(const pac_st *f, int64_t i, pac_tensor *out);
void pac_st_find(const pac_st *f, const char *name, bool *found, pac_tensor *out);
/** "path" of the file that holds tensor i, for messages. */
const char *pac_st_path(const pac_st *f, int64_t i);
/** Value of a __metadata__ key, or NULL. */
const char *pac_st_metadata(const pac_st *f, const char *key);
/** Tell the system that the pages of this byte range of the mapping are no longer needed. */
void pac_st_drop(const pac_st *f, const void *data, size_t bytes);

typedef struct pac_st_entry { const char *name; pac_tensor tensor; } pac_st_entry;
/** Write to path.tmp, fsync, rename. metadata: NULL or key, value, ..., NULL. Errors: PAC_EIO (what and why), PAC_ENOSPACE. */
pac_err pac_st_write(const char *path, const pac_st_entry *entries, int64_t n, const char *const *metadata);

#endif
