/*
 * The activation cache: a store of sequences, (sample, part) -> rows.
 *
 * A part is one matrix of backbone activations: b_i of the encoder or decoder, or the decoder's final output. During the hybrid
 * epoch each rank appends the parts of its layers for the samples of its share to its own HDF5 file; redistribution then makes
 * every rank (or node) hold all parts of the samples it trains on; the cached epochs read them per micro-batch, ahead of need.
 */
#ifndef PAC_CACHE_H
#define PAC_CACHE_H

#include "pac/parallel.h"
#include "pac/space.h"
#include "pac/tensor.h"

/* What is stored, the same on all ranks. Parts are numbered 0..parts-1: enc b_0..b_E that are read, dec b_0.., final. */
typedef struct pac_cache_layout {
    int64_t parts;
    int64_t D; /* width of every part's rows */
    pac_dtype dtype;
    int64_t samples;
    const int64_t *len[2];      /* [samples] rows of a sample in encoder and decoder parts; borrowed */
    uint8_t stack[2 * 512 + 4]; /* [parts] 0 encoder, 1 decoder */
    int32_t layer[2 * 512 + 4]; /* [parts] the layer (of the whole model) whose stage writes it */
} pac_cache_layout;

/*
 * What makes a cache valid for a run: content hashes of the weights, of the token ids (tokenizer and truncation are in them),
 * of parts and type. A mismatch in any is a stale cache.
 */
typedef struct pac_cache_id {
    uint64_t model, data, layout;
} pac_cache_id;

typedef enum pac_redistribute { PAC_REDIST_ALLGATHER, PAC_REDIST_SHARD } pac_redistribute;

typedef struct pac_cache pac_cache;

/** Bytes of one stored row: width times the type, and its scale with i8. */
int64_t pac_cache_row_bytes(const pac_cache_layout *l);

/** Bytes of the rows of all parts of all samples. (A file adds 8 bytes for each part and sample, an index, up to 1 MiB.) */
int64_t pac_cache_bytes(const pac_cache_layout *l);

/**
 * Check before epoch 1 that every node's directory has room: hybrid files, and what redistribution adds. The directory is made
 * if it is missing; if several nodes share it, it must hold the files of all; an older cache in it counts as free.
 * Errors: PAC_ENOSPACE with the bytes and the ways out (shard, another type, none), PAC_EIO (not writable), PAC_ENOTBUILT
 * (type). Collective.
 */
pac_err pac_cache_check_space(const char *dir, const pac_cache_layout *l, const pac_layout *plan, pac_redistribute how);

/**
 * Create this rank's file dir/rank-NNNN.h5. An older cache in the directory is removed, nothing else. Errors: PAC_EIO (not
 * writable, another run has the older cache open, a file of that name is not ours), PAC_ENOTBUILT (type). Collective.
 */
pac_err pac_cache_create(const char *dir, const pac_cache_layout *l, const pac_cache_id *id, pac_cache **out);

/**
 * Lend one part of n samples to the thread that writes: rows [sum of len, D] f32. `sample` and `rows` must stay as they are
 * until pac_cache_settle() of *ticket (which may be NULL) or of a later one. The thread converts them to the cache's type and
 * writes the parts of a micro-batch together when another list of samples begins, so lend all parts of one before the next.
 * Waits only while very many parts are lent. After a failure the cache is lost: the next call tells of it, and every further
 * one returns it. Errors: PAC_ENOSPACE, PAC_EIO, PAC_EINVAL, PAC_ENUMERIC (beyond f16, not finite in i8). Not collective.
 */
pac_err pac_cache_lend(pac_cache *c, int64_t part, const int64_t *sample, int64_t n, const float *rows, int64_t *ticket);

/** Wait until everything lent up to the ticket (0: nothing, INT64_MAX: all) may be overwritten. Errors as above. Not
 * collective. */
pac_err pac_cache_settle(pac_cache *c, int64_t ticket);

/**
 * After an error: ends the threads, so that nothing borrowed is read any more, and frees the cache; its files stay, as an
 * interrupted run leaves them. NULL is allowed. Not collective.
 */
void pac_cache_abandon(pac_cache **c);

/**
 * Lend and settle: `rows` may be overwritten at once. Errors as above. Not collective.
 */
pac_err pac_cache_append(pac_cache *c, int64_t part, const int64_t *sample, int64_t n, const float *rows);

/**
 * For estimates: bytes of a record, and of the buffers of appending, where micro-batches have so many samples of sample_bytes
 * each, as they are stored.
 */
int64_t pac_cache_write_record(int64_t samples, int64_t sample_bytes);
int64_t pac_cache_write_buffers(int64_t samples, int64_t sample_bytes);

/** Wait for the thread, flush and close the file for writing. Collective. */
pac_err pac_cache_finish(pac_cache *c);

typedef struct pac_cache_moved {
    double seconds;
    int64_t bytes_sent, bytes_stored;
} pac_cache_moved; /* of this rank */

/**
 * Make every sample complete where it will be read. allgather: every node holds all samples (files of ranks on the same node
 * are shared, not copied; blocks of other nodes arrive through pac_allgatherv()). shard: owner[sample] (a rank) receives its
 * parts. Memory is bounded: allgather receives `block_bytes` of every rank at a time, shard about as much in all. owner (NULL
 * for allgather) is copied; moved may be NULL. Errors: PAC_EDATA (a sample lacks a part), PAC_ENOSPACE, PAC_EIO. Collective.
 */
pac_err pac_cache_redistribute(pac_cache *c, pac_redistribute how, const int32_t *owner, size_t block_bytes,
                               pac_cache_moved *moved);

/**
 * Open a finished, redistributed cache of an earlier run. *found false: there is none, or only what an interrupted run left;
 * *out is untouched then. Errors: PAC_EDATA when stale (says which of model, data, layout differs), damaged, or of a world that
 * cannot be served: an allgather cache of one node serves any number of ranks there, any other only as many ranks on as many
 * nodes; PAC_EIO. Collective.
 */
pac_err pac_cache_open(const char *dir, const pac_cache_layout *l, const pac_cache_id *id, bool *found, pac_cache **out);

/** Owner rank of a sample under shard; -1: every rank can read it. */
int64_t pac_cache_owner(const pac_cache *c, int64_t sample);

/* ---- reading: a thread reads ahead ---- */

/** Requests from now on are read into pinned memory of this space (NULL: plain memory). Before the first prefetch. */
void pac_cache_read_into(pac_cache *c, const pac_space *space);

/**
 * Ask for all parts of samples[0..n) in this order; at most 2 requests outstanding. Returns at once. Not collective.
 */
pac_err pac_cache_prefetch(pac_cache *c, const int64_t *sample, int64_t n);
/**
 * Wait for the oldest request: part[i] points to [rows, D] f32, valid until the next pac_cache_take(); part i + 1 lies behind
 * part i. Checksums are verified.
 * Errors: PAC_EDATA (which part of which sample in which file is damaged). Not collective.
 */
pac_err pac_cache_take(pac_cache *c, const float **part);

/* Seconds of this rank: in the background, and of them those that a caller has waited. */
typedef struct pac_cache_times {
    double write, write_waited, read, read_waited;
    int64_t bytes_written, bytes_read; /* of records, as they are stored */
} pac_cache_times;

/** So far. Not collective. */
pac_cache_times pac_cache_spent(const pac_cache *c);

/** Close; keep false: remove the files, and the directory if nothing else is in it. NULL is allowed. Collective. */
pac_err pac_cache_close(pac_cache **c, bool keep);

/**
 * For `pac cache info`: one JSON object (caller frees with pac_mem_free): state, redistribute, samples, parts, layers, width,
 * dtype, bytes, disk_bytes, files, ranks, nodes, identity. For `pac cache verify`: every checksum of every file in the
 * directory, and that no sample lacks a part that this node should hold; *samples are complete here. Errors: PAC_EDATA (no
 * cache there, damaged, incomplete, not finished). Not collective.
 */
pac_err pac_cache_info(const char *dir, char **json);
pac_err pac_cache_verify(const char *dir, int64_t *samples, int64_t *bytes);

#endif
