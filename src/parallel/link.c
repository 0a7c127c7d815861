/*
 * Links: rows of a micro-batch from the ranks of one stage to those of another, whatever their numbers and shares.
 *
 * Both sides compute the same ranges, so no message says what it holds: sample ranges of sender and receiver are intersected,
 * and slot i of each non-empty piece is one message straight from and into the contiguous rows (several beyond pac_block_bytes;
 * MPI keeps the order of equal tags). Receives of a micro-batch may be posted long before they are waited for; sends are only
 * waited for by pac_link_flush(), so neighbours that send to one another at the same time cannot deadlock. The lists of
 * requests keep their capacity: a steady step allocates nothing.
 */
#include "internal.h"

#include "pac/clock.h"

/* A message on its way. */
typedef struct message {
    MPI_Request request;
    int64_t tag; /* the caller's */
    int peer, floats;
} message;

typedef struct queue {
    message *v;
    int64_t count, capacity;
} queue;

struct pac_link {
    const pac_stage_plan *mine, *theirs; /* borrowed from the plan */
    int64_t member;                      /* this rank's place in `mine` */
    int64_t tags;                        /* caller's tags before MPI's wrap around */
    queue sends, receives;
};

pac_err pac_link_new(const pac_layout *l, int64_t peer_stage, pac_link **out)
{
    PAC_CHECK(peer_stage >= 0 && peer_stage < l->P && peer_stage != l->stage, PAC_EINVAL,
              "link from stage %lld to %lld of %lld", (long long)l->stage, (long long)peer_stage, (long long)l->P);
    void *upper_bound, *k;
    int known;
    PAC_MPI(MPI_Comm_get_attr(pac_world_links(), MPI_TAG_UB, &upper_bound, &known));
    int64_t largest = known ? *(int *)upper_bound : 32767; /* 32767: what the standard guarantees */
    PAC_TRY(pac_mem_alloc(PAC_MEM_COMM, sizeof(pac_link), &k));
    *(pac_link *)k = (pac_link){
        .mine = &l->plan->stage[l->stage],
        .theirs = &l->plan->stage[peer_stage],
        .member = l->member,
        .tags = (largest + 1) / PAC_MAX_SLOTS,
    };
    *out = k;
    return PAC_OK;
}

void pac_link_free(pac_link **k)
{
    if (k == NULL || *k == NULL)
        return;
    if (!pac_wait_failed())
        pac_link_flush(*k, -1); /* the data of a send must not go before the send is done */
    pac_mem_free((*k)->sends.v);
    pac_mem_free((*k)->receives.v);
    pac_mem_free(*k);
    *k = NULL;
}

/* ---- posting ---- */

/* Add a message to a queue and start it. Sends read `data`, receives write it. */
static pac_err post(pac_link *k, queue *q, float *data, int floats, int peer, int64_t tag, int64_t slot)
{
    PAC_TRY(pac_mem_grow(PAC_MEM_COMM, (void **)&q->v, &q->capacity, q->count + 1, sizeof *q->v));
    message *m = &q->v[q->count];
    *m = (message){.request = MPI_REQUEST_NULL, .tag = tag, .peer = peer, .floats = floats};
    int mpi_tag = (int)(tag % k->tags * PAC_MAX_SLOTS + slot);
    if (q == &k->sends)
        PAC_MPI(MPI_Isend(data, floats, MPI_FLOAT, peer, mpi_tag, pac_world_links(), &m->request));
    else
        PAC_MPI(MPI_Irecv(data, floats, MPI_FLOAT, peer, mpi_tag, pac_world_links(), &m->request));
    q->count++;
    pac_under_way++;
    return PAC_OK;
}

static pac_err post_blocks(pac_link *k, queue *q, float *data, int64_t floats, int peer, int64_t tag, int64_t slot)
{
    int64_t block = pac_block_bytes < sizeof *data ? 1 : (int64_t)(pac_block_bytes / sizeof *data);
    for (int64_t at = 0; at < floats; at += block)
        PAC_TRY(post(k, q, data + at, (int)(floats - at < block ? floats - at : block), peer, tag, slot));
    return PAC_OK;
}

/* All slots of samples [piece.lo, piece.hi); `first` is the first sample that data[i] holds. */
static pac_err post_piece(pac_link *k, queue *q, pac_range piece, int64_t first, const pac_slot *slots, int64_t nslots,
                          float *const *data, int peer, int64_t tag)
{
    for (int64_t i = 0; i < nslots; i++) {
        int64_t rows = slots[i].off[piece.hi] - slots[i].off[piece.lo], skip = slots[i].off[piece.lo] - slots[i].off[first];
        int64_t floats, start;
        PAC_CHECK(rows >= 0 && skip >= 0 && slots[i].width >= 0, PAC_EINVAL,
                  "slot %lld has falling offsets or a negative width", (long long)i);
        PAC_CHECK(!__builtin_mul_overflow(rows, slots[i].width, &floats) &&
                      !__builtin_mul_overflow(skip, slots[i].width, &start),
                  PAC_EINVAL, "slot %lld has too many elements", (long long)i);
        if (floats > 0)
            PAC_TRY(post_blocks(k, q, data[i] + start, floats, peer, tag, i));
    }
    return PAC_OK;
}

static pac_err post_all(pac_link *k, queue *q, int64_t n, const pac_slot *slots, int64_t nslots, float *const *data,
                        int64_t tag)
{
    PAC_CHECK(n >= 0 && tag >= 0, PAC_EINVAL, "%lld samples with tag %lld", (long long)n, (long long)tag);
    PAC_CHECK(nslots >= 0 && nslots <= PAC_MAX_SLOTS, PAC_EINVAL, "%lld slots of at most %d", (long long)nslots, PAC_MAX_SLOTS);
    pac_range own = pac_split_shares(n, k->mine->share, k->mine->ranks, k->member);
    for (int64_t r = 0; r < k->theirs->ranks; r++) {
        pac_range piece = pac_range_intersect(own, pac_split_shares(n, k->theirs->share, k->theirs->ranks, r));
        if (piece.lo < piece.hi)
            PAC_TRY(post_piece(k, q, piece, own.lo, slots, nslots, data, (int)k->theirs->rank[r], tag));
    }
    return PAC_OK;
}

/* ---- traffic ---- */

static pac_err wait_for(message *m, const char *what, MPI_Status *status)
{
    pac_awaited awaited = {.what = what, .number = m->tag, .peer = m->peer, .bytes = (size_t)m->floats * sizeof(float)};
    return pac_wait(&m->request, &awaited, status);
}

pac_err pac_link_send(pac_link *k, int64_t n, const pac_slot *slots, int64_t nslots, const float *const *data, int64_t tag)
{
    return post_all(k, &k->sends, n, slots, nslots, (float *const *)(uintptr_t)data, tag); /* sends only read */
}

pac_err pac_link_post(pac_link *k, int64_t n, const pac_slot *slots, int64_t nslots, float *const *data, int64_t tag)
{
    return post_all(k, &k->receives, n, slots, nslots, data, tag);
}

static pac_err receive(message *m)
{
    MPI_Status status;
    int floats;
    PAC_TRY(wait_for(m, "receiving rows of micro-batch", &status));
    PAC_MPI(MPI_Get_count(&status, MPI_FLOAT, &floats));
    PAC_CHECK(floats == m->floats, PAC_EINTERNAL, "rank %d sent %d numbers of micro-batch %lld instead of %d", m->peer, floats,
              (long long)m->tag, m->floats);
    return PAC_OK;
}

static pac_err send_away(message *m)
{
    return wait_for(m, "sending rows of micro-batch", MPI_STATUS_IGNORE);
}

/* Wait for those of the tag (-1: all); the others keep their order. */
static pac_err settle(queue *q, int64_t tag, pac_err (*wait)(message *m))
{
    int64_t kept = 0;
    double start = pac_now();
    for (int64_t i = 0; i < q->count; i++) {
        if (tag == -1 || q->v[i].tag == tag)
            PAC_TRY(wait(&q->v[i]));
        else
            q->v[kept++] = q->v[i];
    }
    pac_under_way -= q->count - kept;
    q->count = kept;
    pac_waited.messages += pac_now() - start;
    return PAC_OK;
}

pac_err pac_link_arrived(const pac_link *k, int64_t tag, bool *here)
{
    int done = 1;
    for (int64_t i = 0; i < k->receives.count && done; i++)
        if (k->receives.v[i].tag == tag)
            PAC_MPI(MPI_Request_get_status(k->receives.v[i].request, &done, MPI_STATUS_IGNORE));
    *here = done;
    return PAC_OK;
}

pac_err pac_link_take(pac_link *k, int64_t tag)
{
    return settle(&k->receives, tag, receive);
}

pac_err pac_link_recv(pac_link *k, int64_t n, const pac_slot *slots, int64_t nslots, float *const *data, int64_t tag)
{
    PAC_TRY(pac_link_post(k, n, slots, nslots, data, tag));
    return pac_link_take(k, tag);
}

pac_err pac_link_flush(pac_link *k, int64_t tag)
{
    return settle(&k->sends, tag, send_away);
}
