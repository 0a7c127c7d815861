/*
 * The memory ledger. Each block has a 64-byte header with its size and tag in front, so freeing needs nothing else; totals are
 * guarded by one mutex (allocation is rare: the step loop uses arenas).
 *
 * Large blocks have mappings of their own: their pages become resident when they are first written, and go back to the system
 * when the block is freed, so that the resident size follows the ledger. In dry mode all but small blocks are such, and nothing
 * is reserved for them.
 */
#include "pac/mem.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, LARGE = 1 << 19, LARGE_DRY = 1 << 15 };

typedef struct header {
    size_t bytes;
    size_t mapped; /* bytes of its mapping, 0: from the heap */
    pac_mem_tag tag;
} header;

_Static_assert(sizeof(header) <= ALIGN, "header fits in front of the block");

static struct {
    pthread_mutex_t lock;
    int64_t current[PAC_MEM_NTAGS], peak[PAC_MEM_NTAGS];
    int64_t total, total_peak;
    int64_t blocks;
    int64_t fail_at;
    bool dry;
} ledger = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *const tag_names[PAC_MEM_NTAGS] = {"weights", "tuned",         "gradients", "optimizer", "activations",
                                                     "cache",   "communication", "work",      "data",      "other"};

const char *pac_mem_tag_name(pac_mem_tag tag)
{
    return (unsigned)tag < PAC_MEM_NTAGS ? tag_names[tag] : "?";
}

/* The lock is held. */
static void count(pac_mem_tag tag, int64_t delta)
{
    ledger.current[tag] += delta;
    ledger.total += delta;
    if (ledger.current[tag] > ledger.peak[tag])
        ledger.peak[tag] = ledger.current[tag];
    if (ledger.total > ledger.total_peak)
        ledger.total_peak = ledger.total;
}

static bool fault_is_due(bool *dry)
{
    pthread_mutex_lock(&ledger.lock);
    bool due = ledger.fail_at > 0 && --ledger.fail_at == 0;
    *dry = ledger.dry;
    pthread_mutex_unlock(&ledger.lock);
    return due;
}

static header *from_heap(size_t padded)
{
    header *h = aligned_alloc(ALIGN, padded);
    if (h == NULL)
        return NULL;
    memset(h, 0, padded);
    return h;
}

static header *from_mapping(size_t padded, bool dry)
{
    void *p = mmap(NULL, padded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (dry ? MAP_NORESERVE : 0), -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    ((header *)p)->mapped = padded;
    return p;
}

pac_err pac_mem_alloc(pac_mem_tag tag, size_t bytes, void **out)
{
    bool dry = false;
    if (bytes > SIZE_MAX - 2 * ALIGN || fault_is_due(&dry))
        return pac_fail(PAC_ENOMEM, "cannot allocate %zu bytes for %s", bytes, pac_mem_tag_name(tag));
    size_t padded = (bytes + 2 * ALIGN - 1) / ALIGN * ALIGN;
    header *h = bytes >= (dry ? LARGE_DRY : LARGE) ? from_mapping(padded, dry) : from_heap(padded);
    if (h == NULL)
        return pac_fail(PAC_ENOMEM, "cannot allocate %zu bytes for %s", bytes, pac_mem_tag_name(tag));
    h->bytes = bytes;
    h->tag = tag;
    char *block = (char *)h + ALIGN;
    pthread_mutex_lock(&ledger.lock);
    count(tag, (int64_t)bytes);
    ledger.blocks++;
    pthread_mutex_unlock(&ledger.lock);
    *out = block;
    return PAC_OK;
}

pac_err pac_mem_array(pac_mem_tag tag, int64_t n, size_t size, void **out)
{
    size_t bytes;
    if (n < 0 || __builtin_mul_overflow((size_t)n, size, &bytes))
        return pac_fail(PAC_ENOMEM, "cannot allocate %lld elements of %zu bytes for %s", (long long)n, size,
                        pac_mem_tag_name(tag));
    return pac_mem_alloc(tag, bytes, out);
}

pac_err pac_mem_strdup(const char *s, char **out)
{
    void *copy;
    size_t bytes = strlen(s) + 1;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, bytes, &copy));
    memcpy(copy, s, bytes);
    *out = copy;
    return PAC_OK;
}

pac_err pac_mem_grow(pac_mem_tag tag, void **array, int64_t *capacity, int64_t need, size_t size)
{
    if (need <= *capacity)
        return PAC_OK;
    int64_t n = *capacity < 16 ? 16 : *capacity;
    while (n < need && n <= INT64_MAX / 2)
        n *= 2;
    void *bigger;
    PAC_TRY(pac_mem_array(tag, n < need ? need : n, size, &bigger));
    if (*array != NULL)
        memcpy(bigger, *array, (size_t)*capacity * size);
    pac_mem_free(*array);
    *array = bigger;
    *capacity = n < need ? need : n;
    return PAC_OK;
}

void pac_mem_free(void *p)
{
    if (p == NULL)
        return;
    header *h = (header *)((char *)p - ALIGN);
    pthread_mutex_lock(&ledger.lock);
    count(h->tag, -(int64_t)h->bytes);
    ledger.blocks--;
    pthread_mutex_unlock(&ledger.lock);
    if (h->mapped > 0)
        munmap(h, h->mapped);
    else
        free(h);
}

void pac_mem_dry(bool on)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.dry = on;
    pthread_mutex_unlock(&ledger.lock);
}

void pac_mem_account(pac_mem_tag tag, int64_t delta)
{
    pthread_mutex_lock(&ledger.lock);
    count(tag, delta);
    pthread_mutex_unlock(&ledger.lock);
}

static int64_t read_locked(const int64_t *value)
{
    pthread_mutex_lock(&ledger.lock);
    int64_t v = *value;
    pthread_mutex_unlock(&ledger.lock);
    return v;
}

int64_t pac_mem_current(pac_mem_tag tag)
{
    return read_locked(&ledger.current[tag]);
}

int64_t pac_mem_peak(pac_mem_tag tag)
{
    return read_locked(&ledger.peak[tag]);
}

int64_t pac_mem_current_total(void)
{
    return read_locked(&ledger.total);
}

int64_t pac_mem_peak_total(void)
{
    return read_locked(&ledger.total_peak);
}

int64_t pac_mem_blocks(void)
{
    return read_locked(&ledger.blocks);
}

void pac_mem_trim(void)
{
    malloc_trim(0);
}

void pac_mem_reset_peaks(void)
{
    pthread_mutex_lock(&ledger.lock);
    memcpy(ledger.peak, ledger.current, sizeof ledger.peak);
    ledger.total_peak = ledger.total;
    pthread_mutex_unlock(&ledger.lock);
}

void pac_mem_fail_at(int64_t k)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.fail_at = k;
    pthread_mutex_unlock(&ledger.lock);
}

/* ---- arenas ----
 * A list of chunks, newest first. Offsets are global (sum of the chunks before), so a mark is one number. A reset replaces many
 * chunks by one of the total size; after the first steps an arena is one chunk and allocates nothing.
 */

typedef struct chunk {
    struct chunk *older;
    size_t start; /* global offset of its first byte */
    size_t size;
    char *data;
} chunk;

struct pac_arena {
    pac_mem_tag tag;
    chunk *newest;
    size_t used; /* global offset of the next free byte */
    size_t high; /* largest `used` ever: the size of the chunk that a reset makes */
};

enum { SMALLEST_CHUNK = 1 << 16 };

pac_err pac_arena_new(pac_mem_tag tag, pac_arena **out)
{
    void *a;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_arena), &a));
    ((pac_arena *)a)->tag = tag;
    *out = a;
    return PAC_OK;
}

static void drop_chunks(pac_arena *a)
{
    while (a->newest != NULL) {
        chunk *c = a->newest;
        a->newest = c->older;
        pac_mem_free(c->data);
        pac_mem_free(c);
    }
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
    pac_err err = pac_mem_alloc(a->tag, size, &data);
    if (err != PAC_OK) {
        pac_mem_free(c);
        return err;
    }
    *(chunk *)c = (chunk){.older = a->newest, .start = a->used, .size = size, .data = data};
    a->newest = c;
    return PAC_OK;
}

pac_err pac_arena_get(pac_arena *a, size_t bytes, void **out)
{
    PAC_CHECK(bytes <= SIZE_MAX / 4, PAC_ENOMEM, "cannot allocate %zu bytes for %s", bytes, pac_mem_tag_name(a->tag));
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    chunk *c = a->newest;
    if (c == NULL || a->used + rounded > c->start + c->size) {
        size_t size = rounded > SMALLEST_CHUNK ? rounded : SMALLEST_CHUNK;
        PAC_TRY(add_chunk(a, size));
        c = a->newest;
    }
    *out = c->data + (a->used - c->start);
    a->used += rounded;
    if (a->used > a->high)
        a->high = a->used;
    return PAC_OK;
}

pac_err pac_arena_floats(pac_arena *a, int64_t n, float **out)
{
    void *p;
    PAC_CHECK(n >= 0 && n <= INT64_MAX / 8, PAC_ENOMEM, "cannot allocate %lld floats", (long long)n);
    PAC_TRY(pac_arena_get(a, (size_t)n * sizeof(float), &p));
    *out = p;
    return PAC_OK;
}

void pac_arena_reset(pac_arena *a)
{
    a->used = 0;
    if (a->newest == NULL || a->newest->older == NULL)
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
    while (a->newest != NULL && a->newest->older != NULL && a->newest->start >= mark) {
        chunk *c = a->newest;
        a->newest = c->older;
        pac_mem_free(c->data);
        pac_mem_free(c);
    }
    a->used = mark;
    if (mark == 0)
        pac_arena_reset(a);
}
