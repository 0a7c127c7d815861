/*
 * The memory ledger. Each block has a 64-byte header with its size and tag in front, so freeing needs nothing else; totals are
 * guarded by one mutex (allocation is rare: the step loop uses arenas).
 *
 * Large blocks have mappings of their own: their pages become resident when they are first written, and go back to the system
 * when the block is freed, so that the resident size follows the ledger. In dry mode all but small blocks are such, and nothing
 * is reserved for them.
 */
#include "ledger.h"

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
    int64_t apart, apart_peak; /* of it, not the host's memory */
    int64_t blocks, made;
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

bool ledger_fault_is_due(bool *dry)
{
    pthread_mutex_lock(&ledger.lock);
    bool due = ledger.fail_at > 0 && --ledger.fail_at == 0;
    *dry = ledger.dry;
    pthread_mutex_unlock(&ledger.lock);
    return due;
}

void ledger_block(pac_mem_tag tag, int64_t bytes, int blocks, bool apart)
{
    pthread_mutex_lock(&ledger.lock);
    count(tag, bytes);
    ledger.blocks += blocks;
    ledger.made += blocks > 0 ? blocks : 0;
    ledger.apart += apart ? bytes : 0;
    if (ledger.apart > ledger.apart_peak)
        ledger.apart_peak = ledger.apart;
    pthread_mutex_unlock(&ledger.lock);
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
    if (bytes > SIZE_MAX - 2 * ALIGN || ledger_fault_is_due(&dry))
        return pac_fail(PAC_ENOMEM, "cannot allocate %zu bytes for %s", bytes, pac_mem_tag_name(tag));
    size_t padded = (bytes + 2 * ALIGN - 1) / ALIGN * ALIGN;
    header *h = bytes >= (dry ? LARGE_DRY : LARGE) ? from_mapping(padded, dry) : from_heap(padded);
    if (h == NULL)
        return pac_fail(PAC_ENOMEM, "cannot allocate %zu bytes for %s", bytes, pac_mem_tag_name(tag));
    h->bytes = bytes;
    h->tag = tag;
    char *block = (char *)h + ALIGN;
    ledger_block(tag, (int64_t)bytes, 1, false);
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
    ledger_block(h->tag, -(int64_t)h->bytes, -1, false);
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
    ledger_block(tag, delta, 0, false);
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

int64_t pac_mem_peak_space(void)
{
    return read_locked(&ledger.apart_peak);
}

int64_t pac_mem_blocks(void)
{
    return read_locked(&ledger.blocks);
}

int64_t pac_mem_allocations(void)
{
    return read_locked(&ledger.made);
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
    ledger.apart_peak = ledger.apart;
    pthread_mutex_unlock(&ledger.lock);
}

void pac_mem_fail_at(int64_t k)
{
    pthread_mutex_lock(&ledger.lock);
    ledger.fail_at = k;
    pthread_mutex_unlock(&ledger.lock);
}
