/*
 * The memory ledger: every allocation of the project carries a tag, and current and peak bytes per tag are always known.
 *
 * That is what Table 1 is compared with, what the planner's prediction is checked against, and the leak check at exit.
 * Long-lived blocks come from pac_mem_alloc(); everything of a step comes from an arena, so that the step loop allocates nothing
 * once the arenas have grown to their size.
 */
#ifndef PAC_MEM_H
#define PAC_MEM_H

#include "pac/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum pac_mem_tag {
    PAC_MEM_WEIGHTS,     /* frozen backbone, mapped or copied */
    PAC_MEM_TUNED,       /* parameters that learn */
    PAC_MEM_GRADIENTS,
    PAC_MEM_OPTIMIZER,
    PAC_MEM_ACTIVATIONS, /* kept from forward to backward, and what crosses a stage boundary */
    PAC_MEM_CACHE,       /* read-ahead and write buffers of the activation cache */
    PAC_MEM_COMM,        /* send and receive buffers, reduction buckets */
    PAC_MEM_WORK,        /* scratch of one operation */
    PAC_MEM_DATA,        /* tokenised data set, vocabularies */
    PAC_MEM_OTHER,       /* configuration, plans, text */
    PAC_MEM_NTAGS
} pac_mem_tag;

/** "weights", "tuned", ... */
const char *pac_mem_tag_name(pac_mem_tag tag);

/**
 * Allocate `bytes` zeroed bytes aligned to 64. bytes == 0 gives a valid pointer that can be freed.
 * Thread-safe. The caller owns *out and frees it with pac_mem_free(). Errors: PAC_ENOMEM (message names tag and size).
 */
pac_err pac_mem_alloc(pac_mem_tag tag, size_t bytes, void **out);

/** pac_mem_alloc() for `count` elements of `size` bytes with an overflow check. */
pac_err pac_mem_array(pac_mem_tag tag, int64_t count, size_t size, void **out);

/** Copy a string (tag OTHER). The caller frees *out with pac_mem_free(). */
pac_err pac_mem_strdup(const char *s, char **out);

/**
 * Grow the array at *array (NULL: none yet; from this ledger) to hold at least `need` elements of `size` bytes; *capacity is
 * kept in elements and doubles, so appending is amortised O(1). Contents are kept. Errors: PAC_ENOMEM (nothing changed).
 */
pac_err pac_mem_grow(pac_mem_tag tag, void **array, int64_t *capacity, int64_t need, size_t size);

/** Free a block of this ledger; NULL is allowed. */
void pac_mem_free(void *p);

/** Account for bytes that the ledger did not allocate (a mapped file: +size at map, -size at unmap). */
void pac_mem_account(pac_mem_tag tag, int64_t delta);

int64_t pac_mem_current(pac_mem_tag tag); /* bytes */
int64_t pac_mem_peak(pac_mem_tag tag);    /* bytes, since start or the last reset */
int64_t pac_mem_current_total(void);      /* bytes, all tags */
int64_t pac_mem_peak_total(void);         /* peak of the sum (not the sum of peaks) */
int64_t pac_mem_peak_space(void);         /* bytes of it that are not the host's (pac/space.h), peak of the sum */
int64_t pac_mem_blocks(void);             /* live blocks: 0 at a clean exit */
int64_t pac_mem_allocations(void);        /* blocks made since the start: a steady step makes none */

/** Give freed memory back to the system at once, so that the resident size shows it. */
void pac_mem_trim(void);

/** Set every peak to the current value: the peak of each phase is taken anew. */
void pac_mem_reset_peaks(void);

/** Fault injection for tests: the k-th allocation from now (k >= 1) fails once; 0 switches it off. */
void pac_mem_fail_at(int64_t k);

/**
 * Dry mode: blocks from now on are counted as ever, but large ones are addresses that read as zeros and take no memory until they are
 * written. A model that is far too large for this machine can so be run on the backend `count` (pac/ops.h), and the ledger
 * tells what it would take. Blocks outlive the mode.
 */
void pac_mem_dry(bool on);

/* ---- arenas: many allocations of one lifetime ---- */

typedef struct pac_arena pac_arena;

/** An empty arena whose blocks carry `tag`. The caller owns *out. */
pac_err pac_arena_new(pac_mem_tag tag, pac_arena **out);
void pac_arena_free(pac_arena **arena);

/** `bytes` uninitialised bytes aligned to 64, valid until the arena is reset or freed or a mark before it is released. */
pac_err pac_arena_get(pac_arena *arena, size_t bytes, void **out);

/** `n` floats, as pac_arena_get(). */
pac_err pac_arena_floats(pac_arena *arena, int64_t n, float **out);

/** Forget all contents, keep the capacity (as one block, so a steady step allocates nothing). */
void pac_arena_reset(pac_arena *arena);

/** Stack discipline for scratch: everything got after the mark is given back by the release. */
size_t pac_arena_mark(const pac_arena *arena);
void pac_arena_release(pac_arena *arena, size_t mark);

#endif
