/*
 * The backend "split": the reference on memory of its own, which the host cannot touch outside of ops and copies. It finds what
 * a device would find: a float array that the host made or reads, an index array that is not the host's. Those end the program,
 * the first by a fault of the processor. For tests; it is reached by its name.
 *
 * The memory is one reserved mapping without any right but while an op or a copy runs. New blocks are filled with NaN.
 */
#include "split.h"

#include "pac/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 256 };

#define SPAN ((size_t)1 << 36) /* addresses; pages take memory when they are written */

typedef struct block {
    struct block *next; /* by address */
    char *p;
    size_t bytes;
} block;

static char *memory;
static size_t high; /* bytes from `memory` on that were ever given out, in pages */
static block *blocks;

static void set_rights(int rights)
{
    if (high > 0 && mprotect(memory, high, rights) != 0)
        __builtin_trap();
}

void split_enter(void)
{
    set_rights(PROT_READ | PROT_WRITE);
}

void split_leave(void)
{
    set_rights(PROT_NONE);
}

/* ---- faults of the caller ---- */

static bool inside(const void *p)
{
    return memory != NULL && (const char *)p >= memory && (const char *)p <= memory + high;
}

static void must(bool ok, const void *p, const char *name, const char *what)
{
    if (ok)
        return;
    pac_log(PAC_LOG_WARN, "backend split: %s (%p) %s", name, p, what);
    __builtin_trap();
}

void split_must_be_ours(const void *p, const char *name)
{
    must(p == NULL || inside(p), p, name, "is not an array of the backend");
}

void split_must_be_hosts(const void *p, const char *name)
{
    must(!inside(p), p, name, "is not an array of the host");
}

/* ---- memory ---- */

static pac_err reserve(void)
{
    if (memory != NULL)
        return PAC_OK;
    void *p = mmap(NULL, SPAN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PAC_CHECK(p != MAP_FAILED, PAC_ENOMEM, "backend split: no %zu addresses", SPAN);
    memory = p;
    return PAC_OK;
}

/* The first gap that is large enough. */
static pac_err split_alloc(size_t bytes, void **out)
{
    enum { PAGE = 1 << 16 };
    block *b = malloc(sizeof *b), **at = &blocks;
    size_t size = (bytes / ALIGN + 1) * ALIGN;
    if (b == NULL || bytes > SPAN || reserve() != PAC_OK) {
        free(b);
        return pac_fail(PAC_ENOMEM, "backend split: no memory for %zu bytes", bytes);
    }
    char *p = memory;
    for (; *at != NULL && (size_t)((*at)->p - p) < size; at = &(*at)->next)
        p = (*at)->p + (*at)->bytes;
    if ((size_t)(p - memory) + size > SPAN) {
        free(b);
        return pac_fail(PAC_ENOMEM, "backend split: no memory for %zu bytes", bytes);
    }
    *b = (block){.next = *at, .p = p, .bytes = size};
    *at = b;
    if ((size_t)(p - memory) + size > high)
        high = ((size_t)(p - memory) + size + PAGE - 1) / PAGE * PAGE;
    split_enter();
    memset(p, 0xff, bytes);
    split_leave();
    *out = p;
    return PAC_OK;
}

static void split_free(void *p)
{
    block **at = &blocks;
    while (*at != NULL && (*at)->p != p)
        at = &(*at)->next;
    block *b = *at;
    must(b != NULL, p, "what is freed", "is no block of the backend");
    *at = b->next;
    split_enter();
    memset(p, 0xff, b->bytes);
    split_leave();
    free(b);
}

static pac_err split_pinned_alloc(size_t bytes, void **out)
{
    *out = calloc(1, bytes + 1);
    PAC_CHECK(*out != NULL, PAC_ENOMEM, "backend split: no memory for %zu bytes", bytes);
    return PAC_OK;
}

static pac_err copy(void *to, const void *from, size_t bytes)
{
    split_enter();
    memcpy(to, from, bytes);
    split_leave();
    return PAC_OK;
}

static pac_err split_upload(void *to, const void *host, size_t bytes)
{
    split_must_be_ours(to, "to");
    split_must_be_hosts(host, "host");
    return copy(to, host, bytes);
}

static pac_err split_download(void *host, const void *from, size_t bytes)
{
    split_must_be_ours(from, "from");
    split_must_be_hosts(host, "host");
    return copy(host, from, bytes);
}

static pac_err split_download_start(void *pinned, const void *from, size_t bytes, int64_t *ticket)
{
    *ticket = 0;
    return bytes > 0 ? split_download(pinned, from, bytes) : PAC_OK;
}

static pac_err split_upload_start(void *to, const void *pinned, size_t bytes, int64_t *ticket)
{
    *ticket = 0;
    return split_upload(to, pinned, bytes);
}

static pac_err split_wait(int64_t ticket)
{
    (void)ticket;
    return PAC_OK;
}

static pac_err split_move(void *to, const void *from, size_t bytes)
{
    split_must_be_ours(to, "to");
    split_must_be_ours(from, "from");
    return copy(to, from, bytes);
}

static pac_err split_fill(void *p, int byte, size_t bytes)
{
    split_must_be_ours(p, "p");
    split_enter();
    memset(p, byte, bytes);
    split_leave();
    return PAC_OK;
}

static pac_err split_sync(void)
{
    return PAC_OK;
}

const pac_space pac_split_space = {.name = "split",
                                   .alloc = split_alloc,
                                   .free = split_free,
                                   .pinned_alloc = split_pinned_alloc,
                                   .pinned_free = free,
                                   .upload = split_upload,
                                   .download = split_download,
                                   .download_start = split_download_start,
                                   .upload_start = split_upload_start,
                                   .wait = split_wait,
                                   .follow = split_wait,
                                   .move = split_move,
                                   .fill = split_fill,
                                   .sync = split_sync};
