/*
 * Redistribution: every sample becomes complete where it will be read.
 *
 * All ranks first learn all indexes, so both ends know which records travel in which order, and the data need no headers: what
 * rank s sends to rank d is a stream of known length, cut into rounds of bounded blocks. A receiver gives each stream its own
 * range of its import file and writes the blocks where they belong.
 *
 * allgather: the stream of s is its whole file and goes to one rank of every other node. shard: the stream from s to d is the
 * records of d's samples.
 */
#include "internal.h"

#include "pac/clock.h"

#include <string.h>

/* What one rank has written. */
typedef struct source {
    cache_record *record; /* [records], borrowed from move.records */
    int64_t records;
    cache_sets sets;
} source;

/* One stream of records, as far as it has come. */
typedef struct stream {
    int64_t from, to; /* to -1: to every other node */
    int64_t bytes, done;
    int64_t at, at_offset; /* sender: the record at hand and what has been sent of it */
    int64_t base;          /* receiver: where it begins in the import file */
    bool stored;           /* by this rank */
} stream;

typedef struct move {
    pac_cache *c;
    pac_redistribute how;
    const int32_t *owner;
    int64_t R, me;
    int64_t block; /* bytes of one piece of a stream */
    cache_file mine;
    source *source;           /* [R] */
    cache_record *records;    /* of all ranks */
    stream *in, *out;         /* [R] by rank */
    size_t *in_now, *out_now; /* [R] bytes of this round */
    uint8_t *recv, *send;
    cache_file import;
    int64_t import_bytes;
} move;

static bool travels(const move *m, const cache_record *r, int64_t to)
{
    return to < 0 || m->owner[r->sample] == to;
}

static int64_t record_bytes(const move *m, int64_t from, const cache_record *r)
{
    return cache_record_bytes(&m->c->l, &m->source[from].sets, r->set, r->sample);
}

/* ---- all indexes to all ranks ---- */

static pac_err open_mine(move *m, cache_record **records, int64_t *n)
{
    char path[CACHE_PATH];
    cache_path(path, m->c->dir, false, m->me);
    PAC_TRY(cache_file_open(path, &m->mine));
    return cache_file_records(&m->mine, &m->c->l, records, n);
}

/* `bytes` of every rank in rank order in *out, counts in bytes[R] (filled here). Collective. */
static pac_err gather(move *m, const void *mine, size_t bytes, int64_t *counts, void **out)
{
    void *all = NULL, *sizes = NULL;
    size_t total = 0;
    pac_err err;
    memset(counts, 0, (size_t)m->R * sizeof *counts);
    counts[m->me] = (int64_t)bytes;
    PAC_GO(pac_sum_i64(pac_world(), counts, m->R));
    err = pac_mem_array(PAC_MEM_CACHE, m->R, sizeof(size_t), &sizes);
    for (int64_t r = 0; r < m->R && err == PAC_OK; r++)
        total += ((size_t *)sizes)[r] = (size_t)counts[r];
    if (err == PAC_OK)
        err = pac_mem_alloc(PAC_MEM_CACHE, total, &all);
    PAC_GO(pac_agree(pac_world(), err));
    PAC_GO(pac_allgatherv(pac_world(), mine, bytes, all, sizes));
    pac_mem_free(sizes);
    *out = all;
    return PAC_OK;
out:
    pac_mem_free(all);
    pac_mem_free(sizes);
    return err;
}

static pac_err take_sets(move *m, const uint8_t *has, const int64_t *counts)
{
    for (int64_t r = 0; r < m->R; r++) {
        m->source[r].sets.parts = m->c->l.parts;
        for (int64_t i = 0, number; i < counts[r] / m->c->l.parts; i++, has += m->c->l.parts)
            PAC_TRY(cache_sets_find(&m->source[r].sets, has, m->c->l.stack, &number));
    }
    return PAC_OK;
}

static pac_err gather_indexes(move *m, int64_t *counts)
{
    cache_record *mine = NULL;
    int64_t n = 0;
    void *all, *has;
    pac_err err = pac_agree(pac_world(), open_mine(m, &mine, &n));
    if (err == PAC_OK)
        err = gather(m, mine, (size_t)n * sizeof *mine, counts, &all);
    pac_mem_free(mine);
    PAC_TRY(err);
    m->records = all;
    int64_t sum = 0;
    for (int64_t r = 0; r < m->R; r++) {
        m->source[r].record = m->records + sum;
        m->source[r].records = counts[r] / (int64_t)sizeof(cache_record);
        sum += m->source[r].records;
    }
    const cache_sets *sets = &m->mine.sets;
    PAC_TRY(gather(m, sets->has, (size_t)(sets->count * sets->parts), counts, &has));
    err = pac_agree(pac_world(), take_sets(m, has, counts));
    pac_mem_free(has);
    return err;
}

/* ---- streams ---- */

static int64_t stream_bytes(const move *m, int64_t from, int64_t to)
{
    const source *s = &m->source[from];
    int64_t bytes = 0;
    for (int64_t i = 0; i < s->records; i++)
        if (travels(m, &s->record[i], to))
            bytes += record_bytes(m, from, &s->record[i]);
    return bytes;
}

/* On each node the ranks store the streams of the others by turns. */
static bool stored_here(const move *m, int64_t from)
{
    if (m->how == PAC_REDIST_SHARD)
        return from != m->me;
    return pac_node_of(from) != pac_node_of(m->me) && from % pac_node_size() == pac_node_rank();
}

static void plan_streams(move *m, size_t block_bytes)
{
    bool shard = m->how == PAC_REDIST_SHARD;
    int64_t block = block_bytes < (size_t)INT32_MAX ? (int64_t)block_bytes : INT32_MAX;
    m->block = shard ? block / m->R : block;
    m->block = m->block < 1 ? 1 : m->block;
    for (int64_t r = 0; r < m->R; r++) {
        int64_t to = shard ? m->me : -1;
        m->in[r] = (stream){.from = r, .to = to, .base = m->import_bytes};
        m->out[r] = (stream){.from = m->me, .to = shard ? r : -1};
        if (!shard || r != m->me)
            m->in[r].bytes = stream_bytes(m, r, to);
        if (shard ? r != m->me : r == m->me) /* allgather: one stream, to all */
            m->out[r].bytes = stream_bytes(m, m->me, m->out[r].to);
        m->in[r].stored = m->in[r].bytes > 0 && stored_here(m, r);
        if (m->in[r].stored)
            m->import_bytes += m->in[r].bytes;
    }
}

/* Rounds until the longest stream between any two ranks is through. Collective. */
static pac_err count_rounds(const move *m, int64_t *out)
{
    double longest = 0;
    for (int64_t r = 0; r < m->R; r++)
        longest = (double)m->out[r].bytes > longest ? (double)m->out[r].bytes : longest;
    PAC_TRY(pac_max_f64(pac_world(), &longest, 1));
    *out = ((int64_t)longest + m->block - 1) / m->block;
    return PAC_OK;
}

static size_t next_piece(const move *m, const stream *s)
{
    return (size_t)(s->bytes - s->done < m->block ? s->bytes - s->done : m->block);
}

/* The next bytes of a stream from this rank's file. */
static pac_err read_piece(move *m, stream *s, uint8_t *to, int64_t bytes)
{
    const source *mine = &m->source[m->me];
    while (bytes > 0) {
        const cache_record *r = &mine->record[s->at];
        int64_t rest = travels(m, r, s->to) ? record_bytes(m, m->me, r) - s->at_offset : 0;
        int64_t n = rest < bytes ? rest : bytes;
        PAC_TRY(pac_h5_array_read(m->mine.rows, r->offset + s->at_offset, n, to));
        to += n;
        bytes -= n;
        s->at_offset += n;
        s->done += n;
        if (n == rest) {
            s->at++;
            s->at_offset = 0;
        }
    }
    return PAC_OK;
}

/* ---- rounds ---- */

static pac_err fill_send(move *m)
{
    uint8_t *to = m->send;
    for (int64_t r = 0; r < m->R; r++) {
        PAC_TRY(read_piece(m, &m->out[r], to, (int64_t)m->out_now[r]));
        to += m->out_now[r];
    }
    return PAC_OK;
}

static pac_err store_received(move *m)
{
    const uint8_t *from = m->recv;
    for (int64_t r = 0; r < m->R; r++) {
        stream *s = &m->in[r];
        if (s->stored)
            PAC_TRY(pac_h5_array_write(m->import.rows, s->base + s->done, from, (int64_t)m->in_now[r]));
        s->done += (int64_t)m->in_now[r];
        from += m->in_now[r];
    }
    return PAC_OK;
}

/* What is stored of a round is agreed on with what is read for the next, so a round costs one agreement. */
static pac_err run_rounds(move *m, int64_t rounds)
{
    for (int64_t k = 0; k < rounds; k++) {
        pac_err err = k > 0 ? store_received(m) : PAC_OK;
        for (int64_t r = 0; r < m->R; r++) {
            m->in_now[r] = next_piece(m, &m->in[r]);
            m->out_now[r] = next_piece(m, &m->out[r]);
        }
        err = err == PAC_OK ? fill_send(m) : err;
        PAC_TRY(pac_agree(pac_world(), err));
        if (m->how == PAC_REDIST_SHARD)
            PAC_TRY(pac_alltoallv(pac_world(), m->send, m->out_now, m->recv, m->in_now));
        else
            PAC_TRY(pac_allgatherv(pac_world(), m->send, m->out_now[m->me], m->recv, m->in_now));
    }
    return pac_agree(pac_world(), rounds > 0 ? store_received(m) : PAC_OK);
}

/* ---- the import file ---- */

static pac_err open_import(move *m)
{
    char path[CACHE_PATH];
    cache_header h = m->c->h;
    if (m->import_bytes == 0)
        return PAC_OK;
    PAC_TRY(cache_room_for(m->c->dir, m->import_bytes));
    h.how = (uint64_t)m->how;
    cache_path(path, m->c->dir, true, m->me);
    PAC_TRY(cache_file_create(path, &h, &m->c->l, &m->import));
    return pac_h5_array_extend(m->import.rows, m->import_bytes);
}

static pac_err index_stream(move *m, const stream *s)
{
    const source *from = &m->source[s->from];
    cache_record out[256];
    int64_t n = 0, offset = s->base;
    for (int64_t i = 0; i < from->records; i++) {
        const cache_record *r = &from->record[i];
        if (!travels(m, r, s->to))
            continue;
        out[n] = (cache_record){.sample = r->sample, .offset = offset};
        PAC_TRY(cache_file_set(&m->import, from->sets.has + r->set * m->c->l.parts, m->c->l.stack, &out[n].set));
        offset += record_bytes(m, s->from, r);
        if (++n == 256) {
            PAC_TRY(cache_file_add_records(&m->import, out, n));
            n = 0;
        }
    }
    return cache_file_add_records(&m->import, out, n);
}

static pac_err finish_import(move *m)
{
    if (m->import_bytes == 0)
        return PAC_OK;
    for (int64_t r = 0; r < m->R; r++)
        if (m->in[r].stored)
            PAC_TRY(index_stream(m, &m->in[r]));
    PAC_TRY(pac_h5_set(m->import.h5, "state", CACHE_REDISTRIBUTED));
    return cache_file_close(&m->import);
}

/* ---- all of it ---- */

static pac_err new_buffers(move *m)
{
    size_t send = 0, recv = 0;
    void *p;
    for (int64_t r = 0; r < m->R; r++) {
        send += next_piece(m, &m->out[r]);
        recv += next_piece(m, &m->in[r]);
    }
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, send, &p));
    m->send = p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, recv, &p));
    m->recv = p;
    return open_import(m);
}

static pac_err new_move(move *m)
{
    void *p;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, m->R, sizeof(source), &p));
    m->source = p;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, 2 * m->R, sizeof(stream), &p));
    m->in = p;
    m->out = m->in + m->R;
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, 2 * m->R, sizeof(size_t), &p));
    m->in_now = p;
    m->out_now = m->in_now + m->R;
    return PAC_OK;
}

static void free_move(move *m)
{
    for (int64_t r = 0; r < m->R && m->source != NULL; r++)
        cache_sets_free(&m->source[r].sets);
    (void)cache_file_close(&m->mine);
    (void)cache_file_close(&m->import);
    pac_mem_free(m->source);
    pac_mem_free(m->records);
    pac_mem_free(m->in);
    pac_mem_free(m->in_now);
    pac_mem_free(m->send);
    pac_mem_free(m->recv);
}

/* Collective. Everything travels and is stored; nothing to do for allgather on one node, which shares its files. */
static pac_err move_records(pac_cache *c, pac_redistribute how, const int32_t *owner, size_t block_bytes,
                            pac_cache_moved *moved)
{
    move m = {.c = c, .how = how, .owner = owner, .R = pac_world_size(), .me = pac_world_rank()};
    int64_t rounds;
    void *counts = NULL;
    pac_err err;
    if (m.R == 1 || (how == PAC_REDIST_ALLGATHER && pac_node_count() == 1))
        return PAC_OK;
    err = new_move(&m);
    err = err == PAC_OK ? pac_mem_array(PAC_MEM_CACHE, m.R, sizeof(int64_t), &counts) : err;
    PAC_GO(pac_agree(pac_world(), err));
    PAC_GO(gather_indexes(&m, counts));
    plan_streams(&m, block_bytes);
    PAC_GO(count_rounds(&m, &rounds));
    PAC_GO(pac_agree(pac_world(), cache_advise(new_buffers(&m))));
    PAC_GO(run_rounds(&m, rounds));
    PAC_GO(pac_agree(pac_world(), cache_advise(finish_import(&m))));
    for (int64_t r = 0; r < m.R; r++)
        moved->bytes_sent += m.out[r].bytes;
    moved->bytes_stored = m.import_bytes;
out:
    pac_mem_free(counts);
    free_move(&m);
    return err;
}

static pac_err keep_owner(pac_cache *c, pac_redistribute how, const int32_t *owner)
{
    void *p;
    PAC_CHECK(c->writing == NULL && c->at.start == NULL, PAC_EINVAL, "the cache is redistributed once, after it is finished");
    if (how != PAC_REDIST_SHARD)
        return PAC_OK;
    PAC_CHECK(owner != NULL, PAC_EINVAL, "shard needs an owner for every sample");
    for (int64_t i = 0; i < c->l.samples; i++)
        PAC_CHECK(owner[i] >= 0 && owner[i] < pac_world_size(), PAC_EINVAL, "sample %lld is owned by rank %d of %lld",
                  (long long)i, (int)owner[i], (long long)pac_world_size());
    PAC_TRY(pac_mem_array(PAC_MEM_CACHE, c->l.samples, sizeof *owner, &p));
    memcpy(p, owner, (size_t)c->l.samples * sizeof *owner);
    c->owner = p;
    return PAC_OK;
}

/* The last thing that happens to the file: from now on the cache is valid. */
static pac_err promote(pac_cache *c, pac_redistribute how)
{
    char path[CACHE_PATH];
    cache_path(path, c->dir, false, pac_world_rank());
    c->h.state = CACHE_REDISTRIBUTED;
    c->h.how = (uint64_t)how;
    return cache_advise(cache_file_promote(path, CACHE_REDISTRIBUTED, how, c->owner, c->l.samples));
}

pac_err pac_cache_redistribute(pac_cache *c, pac_redistribute how, const int32_t *owner, size_t block_bytes,
                               pac_cache_moved *moved)
{
    pac_cache_moved result = {0};
    double start = pac_now();
    PAC_TRY(pac_agree(pac_world(), keep_owner(c, how, owner)));
    uint64_t same = cache_checksum(c->owner, c->owner != NULL ? c->l.samples * (int64_t)sizeof *owner : 0, (int64_t)how, 0);
    PAC_TRY(pac_agree_same(pac_world(), same ^ block_bytes, "redistribution of the cache (kind, owners, block size)"));
    PAC_TRY(move_records(c, how, c->owner, block_bytes, &result));
    PAC_TRY(pac_agree(pac_world(), promote(c, how)));
    PAC_TRY(pac_agree(pac_world(), cache_lookup_build(c)));
    result.seconds = pac_now() - start;
    if (moved != NULL)
        *moved = result;
    return PAC_OK;
}
