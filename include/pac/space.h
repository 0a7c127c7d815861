/*
 * Where rows live. A backend computes on memory of the host (its space is NULL) or on memory of its own, which the host must
 * not touch: then every float array of a step, the weights and what learns lie there, and what says which rows are meant (ids,
 * offsets, labels, structs) stays with the host.
 *
 * The seam is these functions. With space NULL a copy is memcpy, and nothing waits. Host code reads or writes rows nowhere
 * else; the backend "split" (pac/ops.h) crashes where it does.
 */
#ifndef PAC_SPACE_H
#define PAC_SPACE_H

#include "pac/mem.h"

/* What a memory of its own can do; the contracts are those of pac_device_*() (pac/device.h), which fill such a table. */
typedef struct pac_space {
    const char *name;
    pac_err (*alloc)(size_t bytes, void **out); /* contents undefined */
    void (*free)(void *p);
    pac_err (*pinned_alloc)(size_t bytes, void **out); /* the host's, fast to copy from and to */
    void (*pinned_free)(void *p);
    pac_err (*upload)(void *to, const void *host, size_t bytes);     /* host may be overwritten on return */
    pac_err (*download)(void *host, const void *from, size_t bytes); /* waits for all work queued before */
    pac_err (*download_start)(void *pinned, const void *from, size_t bytes, int64_t *ticket);
    pac_err (*upload_start)(void *to, const void *pinned, size_t bytes, int64_t *ticket);
    pac_err (*wait)(int64_t ticket);   /* the host waits */
    pac_err (*follow)(int64_t ticket); /* ops queued from now on wait */
    bool (*zero_copy)(void);           /* may ops be given pinned memory, without loss? NULL: no */
    pac_err (*move)(void *to, const void *from, size_t bytes);
    pac_err (*fill)(void *p, int byte, size_t bytes);
    pac_err (*sync)(void);
    void (*constant)(const float *x, int64_t n); /* n values that will not change until they are freed; may be NULL */
} pac_space;

/* ---- memory; all of it in the ledger, under its tag, and apart in the totals of pac_mem_peak_space() ---- */

/** pac_mem_array(): `count` zeroed elements in `space`. Freed by pac_space_free(). Errors: PAC_ENOMEM. */
pac_err pac_space_array(const pac_space *space, pac_mem_tag tag, int64_t count, size_t size, void **out);
/** Free a block of pac_space_array(); NULL is allowed. */
void pac_space_free(const pac_space *space, void *p);
/** The same in pinned memory of the host; NULL: pac_mem_array(). */
pac_err pac_space_pinned_array(const pac_space *space, pac_mem_tag tag, int64_t count, size_t size, void **out);
/** An arena whose pac_arena_floats() lie in `space`; pac_arena_get() is memory of the host as ever. The caller owns *out. */
pac_err pac_arena_new_in(const pac_space *space, pac_mem_tag tag, pac_arena **out);
/** An arena of memory of the host that is fast to copy from and to `space`: places to stage messages. */
pac_err pac_arena_new_staging(const pac_space *space, pac_mem_tag tag, pac_arena **out);
/** n floats in the arena with these values of the host. */
pac_err pac_arena_copy(pac_arena *arena, const float *values, int64_t n, float **out);

/* ---- copies, in the order of the ops; n floats ---- */

/** to (in the space) = from (of the host), which may be overwritten on return. */
pac_err pac_upload(const pac_space *space, float *to, const float *from, int64_t n);
/** to (of the host) = from (in the space), when all ops before are done. */
pac_err pac_download(const pac_space *space, float *to, const float *from, int64_t n);
/** The same of n 32-bit integers (what argmax gives). */
pac_err pac_download_ids(const pac_space *space, int32_t *to, const int32_t *from, int64_t n);
/** to = from, both in the space; they do not overlap. */
pac_err pac_move(const pac_space *space, float *to, const float *from, int64_t n);
/** Does the space read rows of pinned memory where they are, as the host's own memory does? Then nothing is copied there. */
bool pac_space_zero_copy(const pac_space *space);
/** *ticket: for wait() until the work queued so far is done. */
pac_err pac_space_mark(const pac_space *space, int64_t *ticket);
/** Waits until all ops before are done, and says if one failed. Nothing with NULL. */
pac_err pac_space_sync(const pac_space *space);

#endif
