/*
 * Two layers of a slice are resident: madvise() makes the mapped pages of a layer present in a thread beside the computation,
 * and takes those of the layer before out of this process again. The pages stay in the system's cache for as long as it has
 * room: on a model that fits it nothing is read twice from the disk.
 */
#include "stream.h"

#include "pac/thread.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

enum { NONE = -1, FAULT_BYTES = 1 << 16 }; /* pages that the system maps around one that is touched */

typedef struct range {
    char *from;
    size_t bytes; /* whole pages */
} range;

typedef struct layer {
    range *part; /* [parts] */
    int64_t parts;
    int64_t bytes; /* of weights, for the ledger */
    int64_t next;  /* what followed it last time */
} layer;

struct pac_stream {
    const char *dir;
    int64_t first, count; /* entries: the layers from `first` on, and the head */
    layer *layer;         /* [count] */
    range *parts;
    bool dry;
    int64_t current, ahead; /* entries that are resident or becoming so, or NONE */
    int64_t last;           /* used last */
    int64_t room;           /* bytes of two blocks at most: a larger pair (the head) is not held at once */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t wanted; /* the thread reads it, NONE: it is done */
    int failed;     /* errno of its reading, 0: none */
    bool stop;
};

/* ---- pages ---- */

static int touch(const range *r, size_t page)
{
    const volatile char *p = r->from;
    for (size_t at = 0; at < r->bytes; at += page)
        (void)p[at];
    return 0;
}

/* All of it at once for the disk, then page by page for this process. The result is an errno. */
static int make_resident(const layer *l)
{
    for (int64_t i = 0; i < l->parts; i++)
        madvise(l->part[i].from, l->part[i].bytes, MADV_WILLNEED);
    for (int64_t i = 0; i < l->parts; i++) {
        int failed = madvise(l->part[i].from, l->part[i].bytes, MADV_POPULATE_READ) == 0 ? 0 : errno;
        if (failed == EINVAL) /* an older system */
            failed = touch(&l->part[i], (size_t)sysconf(_SC_PAGESIZE));
        if (failed != 0)
            return failed;
    }
    return 0;
}

static void *read_ahead(void *user)
{
    pac_stream *s = user;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (s->wanted == NONE) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        const layer *l = &s->layer[s->wanted];
        pthread_mutex_unlock(&s->lock);
        int failed = make_resident(l);
        pthread_mutex_lock(&s->lock);
        s->failed = failed != 0 ? failed : s->failed;
        s->wanted = NONE;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void ask(pac_stream *s, int64_t entry)
{
    pac_mem_account(PAC_MEM_WEIGHTS, s->layer[entry].bytes);
    if (s->dry)
        return;
    pthread_mutex_lock(&s->lock);
    s->wanted = entry;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static int await(pac_stream *s)
{
    if (s->dry)
        return 0;
    pthread_mutex_lock(&s->lock);
    while (s->wanted != NONE)
        pthread_cond_wait(&s->changed, &s->lock);
    int failed = s->failed;
    pthread_mutex_unlock(&s->lock);
    return failed;
}

static void drop(const pac_stream *s, int64_t entry)
{
    const layer *l = &s->layer[entry];
    for (int64_t i = 0; i < l->parts && !s->dry; i++)
        madvise(l->part[i].from, l->part[i].bytes, MADV_DONTNEED);
    pac_mem_account(PAC_MEM_WEIGHTS, -l->bytes);
}

/* ---- turns ---- */

/* Read what is next, unless it is there or must wait for what is at work. */
static void look_ahead(pac_stream *s)
{
    const layer *l = &s->layer[s->last];
    int64_t held = s->current != NONE ? s->layer[s->current].bytes : 0;
    if (s->ahead != NONE || l->next == s->current || (held > 0 && held + s->layer[l->next].bytes > s->room))
        return;
    s->ahead = l->next;
    ask(s, s->ahead);
}

/* The wrong layer was read ahead, or none. */
static void turn_to(pac_stream *s, int64_t entry)
{
    if (s->ahead != NONE) {
        await(s);
        drop(s, s->ahead);
    }
    s->ahead = entry;
    ask(s, entry);
}

pac_err pac_stream_use(pac_stream *s, int64_t number)
{
    if (s == NULL || number - s->first == s->current)
        return PAC_OK;
    int64_t entry = number - s->first, before = s->current;
    if (s->last != NONE)
        s->layer[s->last].next = entry;
    s->last = entry;
    int64_t next = s->layer[entry].next;
    bool stays = before != NONE && before == next && s->layer[before].bytes + s->layer[entry].bytes <= s->room;
    if (before != NONE && !stays)
        drop(s, before);
    if (s->ahead != entry)
        turn_to(s, entry);
    int failed = await(s);
    s->current = entry;
    s->ahead = stays ? before : NONE;
    PAC_CHECK(failed == 0, PAC_EIO, "%s: cannot read the weights of layer %lld: %s", s->dir, (long long)number,
              strerror(failed));
    look_ahead(s);
    return PAC_OK;
}

void pac_stream_rest(pac_stream *s)
{
    if (s == NULL || s->current == NONE || s->count == 1)
        return;
    drop(s, s->current);
    s->current = NONE;
    look_ahead(s);
}

/* ---- the embedding ---- */

int64_t pac_stream_table_bytes(int64_t bytes)
{
    const int64_t most = (int64_t)PAC_STREAM_ROWS * FAULT_BYTES;
    return bytes < most ? bytes : most;
}

void pac_stream_table_begin(const pac_stream *s, int64_t bytes)
{
    if (s != NULL)
        pac_mem_account(PAC_MEM_WEIGHTS, pac_stream_table_bytes(bytes));
}

void pac_stream_table_end(const pac_stream *s, int64_t bytes)
{
    if (s != NULL)
        pac_mem_account(PAC_MEM_WEIGHTS, -pac_stream_table_bytes(bytes));
}

static range pages_of(const void *data, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)data / page * page;
    uintptr_t end = ((uintptr_t)data + bytes + page - 1) / page * page;
    return (range){.from = (char *)from, .bytes = end - from};
}

void pac_stream_table_drop(const pac_stream *s, const void *data, int64_t bytes)
{
    range r = pages_of(data, (size_t)bytes);
    if (s != NULL && !s->dry)
        madvise(r.from, r.bytes, MADV_DONTNEED);
}

/* ---- making ---- */

/* The entry that a tensor belongs to; NONE: to no one, it is looked up row by row. */
static int64_t entry_of(const pac_model *m, const pac_tensor_need *t)
{
    if (t->rule->scope == PAC_T_BLOCK)
        return t->use.first - m->first;
    return t->rule->scope == PAC_T_HEAD && pac_tensor_streams(t) ? m->last - m->first : NONE;
}

/* Does the tensor lie in the mapped file? A repeated one lies where the first of its name does. */
static bool lies_in_file(const pac_model *m, const pac_tensor_need *t)
{
    const pac_tensor_need *first = m->needs;
    while (strcmp(first->name, t->name) != 0)
        first++;
    return first->home == PAC_AT_FILE;
}

/* Neighbours in the file become one part. */
static void add_part(layer *l, range r)
{
    range *last = l->parts > 0 ? &l->part[l->parts - 1] : NULL;
    if (last != NULL && r.from >= last->from && r.from <= last->from + last->bytes) {
        char *end = r.from + r.bytes, *old = last->from + last->bytes;
        last->bytes = (size_t)((end > old ? end : old) - last->from);
    } else {
        l->part[l->parts++] = r;
    }
}

static pac_err list_parts(pac_stream *s, pac_model *m)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, s->count, sizeof *s->layer, &p));
    s->layer = p;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, m->count, sizeof *s->parts, &p));
    s->parts = p;
    range *free_part = s->parts;
    for (int64_t e = 0; e < s->count; e++) {
        layer *l = &s->layer[e];
        *l = (layer){.part = free_part, .next = (e + 1) % s->count};
        for (int64_t i = 0; i < m->count; i++) {
            const pac_tensor_need *t = &m->needs[i];
            if (entry_of(m, t) != e || !lies_in_file(m, t))
                continue;
            l->bytes += pac_tensor_bytes(&m->desc, t);
            add_part(l, pages_of(*pac_model_slot(m, t), (size_t)pac_tensor_bytes(&m->desc, t)));
        }
        free_part += l->parts;
        if (e < m->last - m->first && 2 * l->bytes > s->room)
            s->room = 2 * l->bytes;
    }
    return PAC_OK;
}

static pac_err start(pac_stream *s)
{
    if (s->dry)
        return PAC_OK;
    PAC_TRY(pac_thread_start(&s->thread, read_ahead, s, "reading layers ahead"));
    s->running = true;
    return PAC_OK;
}

pac_err pac_stream_new(pac_model *m, pac_stream **out)
{
    void *p;
    bool head = pac_has_values(&m->riders[pac_last_stack(&m->desc)].head);
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_stream), &p));
    pac_stream *s = p;
    *s = (pac_stream){.dir = m->desc.dir,
                      .first = m->first,
                      .count = m->last - m->first + head,
                      .dry = m->nowhere != NULL,
                      .current = NONE,
                      .ahead = NONE,
                      .last = NONE,
                      .wanted = NONE};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    pac_err err = list_parts(s, m);
    if (err == PAC_OK)
        err = start(s);
    if (err != PAC_OK)
        pac_stream_free(&s);
    else
        *out = s;
    return err;
}

static void end_thread(pac_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
}

void pac_stream_free(pac_stream **sp)
{
    pac_stream *s = *sp;
    if (s == NULL)
        return;
    if (s->running)
        end_thread(s);
    if (s->current != NONE)
        drop(s, s->current);
    if (s->ahead != NONE)
        drop(s, s->ahead);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    pac_mem_free(s->layer);
    pac_mem_free(s->parts);
    pac_mem_free(s);
    *sp = NULL;
}
