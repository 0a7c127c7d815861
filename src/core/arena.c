/*
 * Arenas: a list of chunks, newest first. Offsets are global (sum of the chunks before), so a mark is one number. A reset
 * replaces many chunks by one of the total size; after the first steps an arena is one chunk and allocates nothing.
 *
 * In an arena of another memory (pac/space.h) a chunk has two sides with the same offsets: floats lie in that memory, all else
 * at the same place of a mapping of the host, of which only the pages that are written take memory. So marks stay one number.
 */
#include "ledger.h"

#include <string.h>
#include <sys/mman.h>

typedef struct chunk {
    struct chunk *older;
    size_t start; /* global offset of its first byte */
    size_t size;
    char *data;   /* NULL: not mapped yet */
    char *floats; /* data, or the other memory's side */
} chunk;

struct pac_arena {
    pac_mem_tag tag;
    const pac_space *space; /* NULL: memory of the host */
    bool staging;           /* of the host, but from the space */
    chunk *newest;
    size_t used; /* global offset of the next free byte */
    size_t high; /* largest `used` ever: the size of the chunk that a reset makes */
};

enum { ALIGN = 64, SMALLEST_CHUNK = 1 << 16 };

static pac_err new_arena(pac_arena values, pac_arena **out)
{
    void *a;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_arena), &a));
    *(pac_arena *)a = values;
    *out = a;
    return PAC_OK;
}

pac_err pac_arena_new(pac_mem_tag tag, pac_arena **out)
{
    return new_arena((pac_arena){.tag = tag}, out);
}

pac_err pac_arena_new_in(const pac_space *space, pac_mem_tag tag, pac_arena **out)
{
    return new_arena((pac_arena){.tag = tag, .space = space}, out);
}

pac_err pac_arena_new_staging(const pac_space *space, pac_mem_tag tag, pac_arena **out)
{
    return new_arena((pac_arena){.tag = tag, .space = space, .staging = true}, out);
}

/* ---- chunks ---- */

static bool two_sided(const pac_arena *a)
{
    return a->space != NULL && !a->staging;
}

static void drop_newest(pac_arena *a)
{
    chunk *c = a->newest;
    a->newest = c->older;
    if (two_sided(a) && c->data != NULL)
        munmap(c->data, c->size);
    pac_space_free(a->space, c->floats);
    pac_mem_free(c);
}

static void drop_chunks(pac_arena *a)
{
    while (a->newest != NULL)
        drop_newest(a);
}

void pac_arena_free(pac_arena **arena)
{
    if (arena == NULL || *arena == NULL)
        return;
    drop_chunks(*arena);
    pac_mem_free(*arena);
    *arena = NULL;
}

static pac_err add_chunk(pac_arena *a, size_t size)
{
    void *c, *data;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(chunk), &c));
    pac_err err =
        a->space != NULL ? space_block(a->space, a->staging, a->tag, size, &data) : pac_mem_alloc(a->tag, size, &data);
    if (err != PAC_OK) {
        pac_mem_free(c);
        return err;
    }
    *(chunk *)c =
        (chunk){.older = a->newest, .start = a->used, .size = size, .data = two_sided(a) ? NULL : data, .floats = data};
    a->newest = c;
    return PAC_OK;
}

/* Room for that many bytes in the newest chunk, from *at of it on. */
static pac_err reserve(pac_arena *a, size_t bytes, size_t *at)
{
    PAC_CHECK(bytes <= SIZE_MAX / 4, PAC_ENOMEM, "cannot allocate %zu bytes for %s", bytes, pac_mem_tag_name(a->tag));
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    chunk *c = a->newest;
    if (c == NULL || a->used + rounded > c->start + c->size) {
        PAC_TRY(add_chunk(a, rounded > SMALLEST_CHUNK ? rounded : SMALLEST_CHUNK));
        c = a->newest;
    }
    *at = a->used - c->start;
    a->used += rounded;
    if (a->used > a->high)
        a->high = a->used;
    return PAC_OK;
}

/* The host's side of a chunk. */
static pac_err map_side(chunk *c)
{
    void *p = mmap(NULL, c->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PAC_CHECK(p != MAP_FAILED, PAC_ENOMEM, "cannot map %zu bytes", c->size);
    c->data = p;
    return PAC_OK;
}

pac_err pac_arena_get(pac_arena *a, size_t bytes, void **out)
{
    size_t at = 0;
    PAC_TRY(reserve(a, bytes, &at));
    if (a->newest->data == NULL)
        PAC_TRY(map_side(a->newest));
    *out = a->newest->data + at;
    return PAC_OK;
}

pac_err pac_arena_floats(pac_arena *a, int64_t n, float **out)
{
    size_t at = 0;
    PAC_CHECK(n >= 0 && n <= INT64_MAX / 8, PAC_ENOMEM, "cannot allocate %lld floats", (long long)n);
    PAC_TRY(reserve(a, (size_t)n * sizeof(float), &at));
    *out = (float *)(void *)(a->newest->floats + at);
    return PAC_OK;
}

pac_err pac_arena_copy(pac_arena *a, const float *values, int64_t n, float **out)
{
    float *p;
    PAC_TRY(pac_arena_floats(a, n, &p));
    PAC_TRY(pac_upload(two_sided(a) ? a->space : NULL, p, values, n));
    *out = p;
    return PAC_OK;
}

/* One chunk of the most that was ever in use: also where releases have given the second chunk back before, or each pass would
 * map it anew. */
void pac_arena_reset(pac_arena *a)
{
    a->used = 0;
    if (a->newest == NULL || (a->newest->older == NULL && a->newest->size >= a->high))
        return;
    size_t high = a->high;
    drop_chunks(a);
    pac_err ignored = add_chunk(a, high); /* on failure the arena is empty and grows again */
    (void)ignored;
}

size_t pac_arena_mark(const pac_arena *a)
{
    return a->used;
}

/* Chunks stay in place until the next reset unless they lie wholly behind the mark. */
void pac_arena_release(pac_arena *a, size_t mark)
{
    while (a->newest != NULL && a->newest->older != NULL && a->newest->start >= mark)
        drop_newest(a);
    a->used = mark;
    if (mark == 0)
        pac_arena_reset(a);
}
