/*
 * Is there room on the disk? Asked before the first epoch for everything that will be stored, and before each write for what it
 * takes, so that a full disk is met with a message instead of a half-written file.
 *
 * Under allgather every node ends with one copy of everything, whatever the plan. Under shard a rank's file keeps what its
 * layers gave, and its import holds the other layers of the samples that it owns (in expectation, the same part of all
 * samples). PAC_TEST_DISK_FREE=bytes in the environment pretends a small disk.
 */
#include "internal.h"

#include "pac/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { SLACK = 1 << 20 }; /* of each file: attributes, index, and what the file system itself takes */

static pac_err disk_free(const char *dir, int64_t *out)
{
    const char *pretended = getenv("PAC_TEST_DISK_FREE");
    struct statvfs s;
    if (pretended != NULL) {
        *out = strtoll(pretended, NULL, 10);
        return PAC_OK;
    }
    PAC_CHECK(statvfs(dir, &s) == 0, PAC_EIO, "%s: free space is not known: %s", dir, strerror(errno));
    *out = (int64_t)((double)s.f_bavail * (double)s.f_frsize);
    return PAC_OK;
}

pac_err cache_room_for(const char *dir, int64_t bytes)
{
    int64_t there = 0;
    PAC_TRY(disk_free(dir, &there));
    PAC_CHECK(bytes + SLACK <= there, PAC_ENOSPACE, "%s: the disk is full: %lld bytes are to be written, %lld are free", dir,
              (long long)(bytes + SLACK), (long long)there);
    return PAC_OK;
}

pac_err cache_advise(pac_err err)
{
    if (err != PAC_ENOSPACE)
        return err;
    return pac_fail(
        err,
        "%s; ways out: another cache.dir, or cache: none; cache.redistribute: shard and cache.dtype: bf16 or i8 take "
        "less, which may not be little enough",
        pac_err_message());
}

/* ---- how much a node will hold ---- */

/* Rows of all samples in one part, as a fraction of the rows of all parts. */
static double rows_of(const pac_cache_layout *l, int64_t part)
{
    double rows = 0;
    for (int64_t i = 0; i < l->samples; i++)
        rows += (double)l->len[l->stack[part]][i];
    return rows;
}

/* Part of all stored bytes that a rank writes: the parts of its stage's layers, its share of the samples. */
static double written_part(const pac_cache_layout *l, const pac_plan *plan, int64_t rank)
{
    double mine = 0, all = 0;
    for (int64_t s = 0; s < plan->stages; s++) {
        const pac_stage_plan *stage = &plan->stage[s];
        double share = 0;
        for (int64_t i = 0; i < stage->ranks; i++)
            share += stage->rank[i] == rank ? stage->share[i] : 0;
        for (int64_t part = 0; part < l->parts; part++) {
            bool here = l->layer[part] >= stage->first && l->layer[part] < stage->last;
            double rows = here ? rows_of(l, part) : 0;
            all += rows;
            mine += rows * share;
        }
    }
    return all > 0 ? mine / all : 0;
}

/* Part of all samples that a rank reads from the cache. */
static double owned_part(const pac_plan *plan, int64_t rank)
{
    return plan->cached_share != NULL ? plan->cached_share[rank] : 1 / (double)plan->world;
}

static double node_bytes(const pac_cache_layout *l, const pac_plan *plan, pac_redistribute how, int64_t node)
{
    const double all = (double)pac_cache_bytes(l) + 8.0 * (double)l->parts * (double)l->samples;
    const double index = 64.0 * (double)l->samples; /* entries, lengths, owners */
    double bytes = how == PAC_REDIST_ALLGATHER ? all : 0;
    for (int64_t r = 0; r < plan->world; r++) {
        if (pac_node_of(r) != node)
            continue;
        double wrote = written_part(l, plan, r);
        if (how == PAC_REDIST_SHARD)
            bytes += all * (wrote + owned_part(plan, r) * (1 - wrote));
        bytes += SLACK + index;
    }
    return bytes;
}

/* ---- which nodes share this directory ---- */

static void probe_path(char out[CACHE_PATH], const char *dir, uint64_t run, int64_t node)
{
    snprintf(out, CACHE_PATH, "%s/.pac-probe-%016llx-%lld", dir, (unsigned long long)run, (long long)node);
}

/* An empty file that shows the directory to be writable, and to whoever sees it, to be shared. */
static pac_err leave_probe(const char *dir, uint64_t run)
{
    char path[CACHE_PATH];
    PAC_TRY(cache_make_dir(dir));
    if (pac_node_rank() != 0)
        return PAC_OK;
    probe_path(path, dir, run, pac_node_of(pac_world_rank()));
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    PAC_CHECK(fd >= 0, PAC_EIO, "%s: the cache's directory cannot be written: %s", dir, strerror(errno));
    close(fd);
    return PAC_OK;
}

static void remove_probe(const char *dir, uint64_t run)
{
    char path[CACHE_PATH];
    probe_path(path, dir, run, pac_node_of(pac_world_rank()));
    if (pac_node_rank() == 0)
        unlink(path);
}

static double directory_bytes(const char *dir, uint64_t run, const pac_cache_layout *l, const pac_plan *plan,
                              pac_redistribute how)
{
    char path[CACHE_PATH];
    double bytes = 0;
    for (int64_t node = 0; node < pac_node_count(); node++) {
        probe_path(path, dir, run, node);
        if (access(path, F_OK) == 0)
            bytes += node_bytes(l, plan, how, node);
    }
    return bytes;
}

/* ---- the answer ---- */

/* Files of an older cache go before the new one is written. */
static pac_err add_size(void *user, const char *path)
{
    struct stat s;
    if (stat(path, &s) == 0)
        *(double *)user += (double)s.st_blocks * 512;
    return PAC_OK;
}

/* Ways to need less, of which only those are named with which every node has room. */
enum { BF16, I8, SHARD, WAYS };

static const char *const way_words[WAYS] = {"cache.dtype: bf16", "cache.dtype: i8", "cache.redistribute: shard"};

typedef struct room {
    double need, there;
    int64_t lacks[WAYS]; /* nodes without room even so; what is as it is already counts as one */
} room;

static void try_ways(const char *dir, uint64_t run, const pac_cache_layout *l, const pac_plan *plan, pac_redistribute how,
                     room *r)
{
    static const pac_dtype types[] = {[BF16] = PAC_BF16, [I8] = PAC_I8};
    for (int w = 0; w < SHARD; w++) {
        pac_cache_layout other = *l;
        other.dtype = types[w];
        r->lacks[w] = l->dtype == types[w] || directory_bytes(dir, run, &other, plan, how) > r->there;
    }
    r->lacks[SHARD] = how == PAC_REDIST_SHARD || directory_bytes(dir, run, l, plan, PAC_REDIST_SHARD) > r->there;
}

static pac_err measure(const char *dir, uint64_t run, const pac_cache_layout *l, const pac_plan *plan, pac_redistribute how,
                       room *r)
{
    int64_t there = 0;
    double old = 0;
    *r = (room){0};
    if (pac_node_rank() != 0)
        return PAC_OK;
    PAC_TRY(disk_free(dir, &there));
    PAC_TRY(cache_each_file(dir, add_size, &old, NULL));
    r->need = directory_bytes(dir, run, l, plan, how);
    r->there = (double)there + old;
    try_ways(dir, run, l, plan, how, r);
    return PAC_OK;
}

static pac_err judge(const char *dir, const room *r)
{
    char ways[128] = "", need[32], there[32];
    size_t n = 0;
    if (r->need <= r->there)
        return PAC_OK;
    for (int w = 0; w < WAYS; w++)
        if (r->lacks[w] == 0)
            n += (size_t)snprintf(ways + n, sizeof ways - n, "%s, ", way_words[w]);
    return pac_fail(
        PAC_ENOSPACE,
        "the activation cache needs %.0f bytes (%s) in %s on %s, where %.0f bytes (%s) are free; ways out: %scache: "
        "none (every epoch runs the backbone), or another cache.dir",
        r->need, pac_bytes_text(r->need, need), dir, pac_world_host(), r->there, pac_bytes_text(r->there, there), ways);
}

pac_err pac_cache_check_space(const char *dir, const pac_cache_layout *l, const pac_layout *plan, pac_redistribute how)
{
    uint64_t run = cache_new_run();
    room r;
    pac_err err;
    PAC_TRY(pac_agree(pac_world(), cache_check_layout(l)));
    PAC_TRY(pac_bcast(pac_world(), &run, sizeof run, 0));
    PAC_GO(pac_agree(pac_world(), leave_probe(dir, run)));
    PAC_GO(pac_agree(pac_world(), measure(dir, run, l, plan->plan, how, &r))); /* all have looked for the probes */
    PAC_GO(pac_sum_i64(pac_world(), r.lacks, WAYS));
    PAC_GO(pac_agree(pac_world(), judge(dir, &r)));
out:
    remove_probe(dir, run);
    return err;
}
