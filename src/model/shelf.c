/*
 * Packed matrices that the processes of a node share: one piece of memory without a name, in which every matrix of the model
 * has its place, and only those that somebody holds take pages. Whoever needs a matrix first packs it under the lock of its
 * place; the last one to give it back frees the pages.
 *
 * The locks are robust: one whose owner died is taken over and its matrix packed anew, so nobody waits for a process that is
 * gone. The memory goes with the last process that has it mapped, however that ends.
 */
#include "shelf.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    PAGE = 1 << 16, /* a multiple of every system's */
    PATIENCE = 300  /* seconds for a matrix that another process packs: it takes one at most */
};

typedef struct slot {
    pthread_mutex_t lock;
    int64_t users;
    bool made;
} slot; /* shared */

struct pac_shelf {
    pac_tensor_need *needs; /* of the whole model */
    int64_t count;
    int64_t *at; /* [count] offset of the values, -1: not packed, or a repetition */
    char *map;
    int64_t bytes;
    uint64_t layout; /* of all matrices: what another process must have too */
    int fd;
};

static slot *slot_of(const pac_shelf *s, int64_t i)
{
    return (slot *)(void *)s->map + i;
}

static int64_t pages(int64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* ---- making ---- */

static pac_err lay_out(const pac_model_desc *d, const pac_backend *be, pac_shelf *s)
{
    void *p;
    PAC_TRY(pac_tensors_of(d, 0, pac_depth(d), d->lm ? PAC_TENSORS_HEAD : 0, &s->needs, &s->count));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, s->count, sizeof *s->at, &p));
    s->at = p;
    s->bytes = pages(s->count * (int64_t)sizeof(slot));
    for (int64_t i = 0; i < s->count; i++) {
        const pac_tensor_need *t = &s->needs[i];
        bool here = pac_tensor_packs(d, t) && !t->repeated;
        s->at[i] = here ? s->bytes : -1;
        s->bytes += here ? pages(pac_packed_size(be, t->shape[0], t->shape[1])) : 0;
        int64_t kind[] = {s->bytes, here ? pac_packed_layout(be, t->shape[0], t->shape[1]) : 1};
        s->layout = XXH3_64bits_withSeed(kind, sizeof kind, s->layout);
    }
    return PAC_OK;
}

static pac_err map_memory(pac_shelf *s)
{
    PAC_CHECK(s->fd >= 0, PAC_ENOMEM, "cannot make memory that the processes of a node share: %s", strerror(errno));
    void *p = mmap(NULL, (size_t)s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->fd, 0);
    PAC_CHECK(p != MAP_FAILED, PAC_ENOMEM, "cannot map %lld bytes that are shared: %s", (long long)s->bytes, strerror(errno));
    s->map = p;
    return PAC_OK;
}

static pac_err make_locks(pac_shelf *s)
{
    pthread_mutexattr_t how;
    bool good = pthread_mutexattr_init(&how) == 0 && pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST) == 0;
    for (int64_t i = 0; i < s->count && good; i++)
        good = pthread_mutex_init(&slot_of(s, i)->lock, &how) == 0;
    PAC_CHECK(good, PAC_EINTERNAL, "no locks between processes");
    return PAC_OK;
}

static pac_err empty_shelf(const pac_model_desc *d, const pac_backend *be, pac_shelf **out)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_shelf), &p));
    *(pac_shelf *)p = (pac_shelf){.fd = -1};
    *out = p;
    return lay_out(d, be, p);
}

pac_err pac_shelf_new(const pac_model_desc *d, const pac_backend *be, pac_shelf **out)
{
    pac_shelf *s = NULL;
    pac_err err;
    PAC_GO(empty_shelf(d, be, &s));
    s->fd = memfd_create("pac-weights", MFD_CLOEXEC);
    if (s->fd >= 0 && ftruncate(s->fd, s->bytes) != 0)
        PAC_GO(pac_fail(PAC_ENOMEM, "cannot share %lld bytes: %s", (long long)s->bytes, strerror(errno)));
    PAC_GO(map_memory(s));
    PAC_GO(make_locks(s));
    *out = s;
    return PAC_OK;
out:
    pac_shelf_free(&s);
    return err;
}

void pac_shelf_address(const pac_shelf *s, int64_t at[3])
{
    at[0] = getpid();
    at[1] = s->fd;
    at[2] = (int64_t)s->layout;
}

pac_err pac_shelf_open(const pac_model_desc *d, const pac_backend *be, const int64_t at[3], pac_shelf **out)
{
    char path[64];
    pac_shelf *s = NULL;
    pac_err err;
    PAC_GO(empty_shelf(d, be, &s));
    if (s->layout != (uint64_t)at[2])
        PAC_GO(pac_fail(PAC_EINTERNAL, "matrices are packed another way than in process %lld", (long long)at[0]));
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)at[0], (long long)at[1]);
    s->fd = open(path, O_RDWR | O_CLOEXEC);
    if (s->fd >= 0 && lseek(s->fd, 0, SEEK_END) != s->bytes)
        PAC_GO(pac_fail(PAC_EINTERNAL, "%s is something else", path));
    PAC_GO(map_memory(s));
    *out = s;
    return PAC_OK;
out:
    pac_shelf_free(&s);
    return err;
}

void pac_shelf_settle(pac_shelf *s)
{
    close(s->fd);
    s->fd = -1;
}

void pac_shelf_free(pac_shelf **sp)
{
    pac_shelf *s = *sp;
    if (s == NULL)
        return;
    if (s->map != NULL)
        munmap(s->map, (size_t)s->bytes);
    if (s->fd >= 0)
        close(s->fd);
    pac_mem_free(s->needs);
    pac_mem_free(s->at);
    pac_mem_free(s);
    *sp = NULL;
}

/* ---- matrices ---- */

static int64_t find(const pac_shelf *s, const char *name)
{
    for (int64_t i = 0; i < s->count; i++)
        if (s->at[i] >= 0 && strcmp(s->needs[i].name, name) == 0)
            return i;
    return -1;
}

/* EBUSY: another has it, and waiting was not wanted. What a dead owner was at is not made. */
static int lock(slot *v, bool wait)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE;
    int failed = wait ? pthread_mutex_timedlock(&v->lock, &end) : pthread_mutex_trylock(&v->lock);
    if (failed != EOWNERDEAD)
        return failed;
    v->made = v->made && v->users > 0;
    return pthread_mutex_consistent(&v->lock);
}

pac_err pac_shelf_take(pac_shelf *s, const pac_backend *be, const pac_tensor_need *need, const pac_tensor *t, bool wait,
                       pac_packed **out)
{
    int64_t i = find(s, need->name);
    PAC_CHECK(i >= 0, PAC_EINTERNAL, "%s has no place in the node's memory", need->name);
    slot *v = slot_of(s, i);
    int failed = lock(v, wait);
    if (failed == EBUSY)
        return PAC_OK;
    PAC_CHECK(failed != ETIMEDOUT, PAC_EINTERNAL, "%s: another process of this node packs it since %d s; is it stopped?",
              need->name, PATIENCE);
    PAC_CHECK(failed == 0, PAC_EINTERNAL, "the lock of %s: %s", need->name, strerror(failed));
    pac_err err = pac_packed_place(be, t->data, t->dtype, need->shape[0], need->shape[1], s->map + s->at[i], v->made, out);
    if (err == PAC_OK) {
        v->made = true;
        v->users++;
    }
    pthread_mutex_unlock(&v->lock);
    return err;
}

void pac_shelf_return(pac_shelf *s, const pac_tensor_need *need, pac_packed **p)
{
    int64_t i = find(s, need->name), bytes = pages(pac_packed_bytes(*p));
    pac_packed_free(p);
    if (i < 0 || lock(slot_of(s, i), true) != 0)
        return;
    slot *v = slot_of(s, i);
    if (--v->users == 0) {
        v->made = false;
        madvise(s->map + s->at[i], (size_t)bytes, MADV_REMOVE);
    } else {
        madvise(s->map + s->at[i], (size_t)bytes, MADV_DONTNEED);
    }
    pthread_mutex_unlock(&v->lock);
}
