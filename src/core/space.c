/*
 * Memory that is not the host's: its blocks in the ledger, and copies. The host cannot write a header in front of such a block,
 * so size and tag are kept in a list; blocks are few (a weight, an arena's chunk).
 */
#include "ledger.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct block {
    struct block *next;
    void *p;
    size_t bytes;
    pac_mem_tag tag;
    bool pinned;
} block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static block *blocks; /* newest first */

pac_err space_block(const pac_space *space, bool pinned, pac_mem_tag tag, size_t bytes, void **out)
{
    bool dry;
    void *p;
    block *b = ledger_fault_is_due(&dry) ? NULL : malloc(sizeof *b);
    PAC_CHECK(b != NULL, PAC_ENOMEM, "cannot allocate %zu bytes for %s", bytes, pac_mem_tag_name(tag));
    pac_err err = pinned ? space->pinned_alloc(bytes, &p) : space->alloc(bytes, &p);
    if (err != PAC_OK) {
        free(b);
        return err;
    }
    pthread_mutex_lock(&lock);
    *b = (block){.next = blocks, .p = p, .bytes = bytes, .tag = tag, .pinned = pinned};
    blocks = b;
    pthread_mutex_unlock(&lock);
    ledger_block(tag, (int64_t)bytes, 1, !pinned);
    *out = p;
    return PAC_OK;
}

static block *take(const void *p)
{
    pthread_mutex_lock(&lock);
    block **at = &blocks;
    while (*at != NULL && (*at)->p != p)
        at = &(*at)->next;
    block *b = *at;
    if (b != NULL)
        *at = b->next;
    pthread_mutex_unlock(&lock);
    return b;
}

pac_err pac_space_array(const pac_space *space, pac_mem_tag tag, int64_t n, size_t size, void **out)
{
    size_t bytes;
    void *p;
    if (space == NULL)
        return pac_mem_array(tag, n, size, out);
    PAC_CHECK(n >= 0 && !__builtin_mul_overflow((size_t)n, size, &bytes), PAC_ENOMEM,
              "cannot allocate %lld elements of %zu bytes for %s", (long long)n, size, pac_mem_tag_name(tag));
    PAC_TRY(space_block(space, false, tag, bytes, &p));
    pac_err err = space->fill(p, 0, bytes);
    if (err != PAC_OK)
        pac_space_free(space, p);
    else
        *out = p;
    return err;
}

pac_err pac_space_pinned_array(const pac_space *space, pac_mem_tag tag, int64_t n, size_t size, void **out)
{
    size_t bytes;
    if (space == NULL)
        return pac_mem_array(tag, n, size, out);
    PAC_CHECK(n >= 0 && !__builtin_mul_overflow((size_t)n, size, &bytes), PAC_ENOMEM,
              "cannot allocate %lld elements of %zu bytes for %s", (long long)n, size, pac_mem_tag_name(tag));
    return space_block(space, true, tag, bytes, out);
}

void pac_space_free(const pac_space *space, void *p)
{
    if (p == NULL || space == NULL) {
        pac_mem_free(p);
        return;
    }
    block *b = take(p);
    if (b == NULL)
        return;
    ledger_block(b->tag, -(int64_t)b->bytes, -1, !b->pinned);
    (b->pinned ? space->pinned_free : space->free)(p);
    free(b);
}

/* ---- copies ---- */

static pac_err copy_here(void *to, const void *from, size_t bytes)
{
    if (bytes > 0 && to != from)
        memcpy(to, from, bytes);
    return PAC_OK;
}

static pac_err download(const pac_space *space, void *to, const void *from, size_t bytes)
{
    if (space == NULL)
        return copy_here(to, from, bytes);
    return bytes > 0 ? space->download(to, from, bytes) : PAC_OK;
}

pac_err pac_upload(const pac_space *space, float *to, const float *from, int64_t n)
{
    size_t bytes = (size_t)n * sizeof *to;
    if (space == NULL)
        return copy_here(to, from, bytes);
    return n > 0 ? space->upload(to, from, bytes) : PAC_OK;
}

pac_err pac_download(const pac_space *space, float *to, const float *from, int64_t n)
{
    return download(space, to, from, (size_t)n * sizeof *to);
}

pac_err pac_download_ids(const pac_space *space, int32_t *to, const int32_t *from, int64_t n)
{
    return download(space, to, from, (size_t)n * sizeof *to);
}

pac_err pac_move(const pac_space *space, float *to, const float *from, int64_t n)
{
    size_t bytes = (size_t)n * sizeof *to;
    if (space == NULL)
        return copy_here(to, from, bytes);
    return n > 0 && to != from ? space->move(to, from, bytes) : PAC_OK;
}

bool pac_space_zero_copy(const pac_space *space)
{
    return space == NULL || (space->zero_copy != NULL && space->zero_copy());
}

pac_err pac_space_mark(const pac_space *space, int64_t *ticket)
{
    return space->download_start(NULL, NULL, 0, ticket);
}

pac_err pac_space_sync(const pac_space *space)
{
    return space != NULL ? space->sync() : PAC_OK;
}
