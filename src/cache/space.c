/*
 * Is there room on the disk? Asked before the first epoch for everything that will be stored, and before each write for what it
 * takes, so that a full disk is met with a message instead of a half-written file.
 *
 * Under allgather every node ends with one copy of everything, whatever the plan. Under shard a rank's file keeps what its
 * layers gave, and its import holds the other layers of the samples that it owns (in expectation, the same part of all
 * samples). PAC_TEST_DISK_FREE=bytes in the environment pretends a small disk.
 */
#include "internal.h"

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
    return pac_fail(err, "%s; ways out: another cache.dir, cache.redistribute: shard, cache.dtype: bf16 or i8, or cache: none",
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
            bytes += all * wrote + all / (double)plan->world * (1 - wrote);
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

static pac_err refuse(const char *dir, const pac_cache_layout *l, double need, double there, double sharded)
{
    char shard[128] = "", type[64] = "";
    if (sharded < need)
        snprintf(shard, sizeof shard, "cache.redistribute: shard (%.0f bytes here), ", sharded);
    if (l->dtype == PAC_F32)
        snprintf(type, sizeof type, "cache.dtype: bf16 (half of it) or i8 (a quarter), ");
    else if (l->dtype != PAC_I8)
        snprintf(type, sizeof type, "cache.dtype: i8 (half of it), ");
    return pac_fail(
        PAC_ENOSPACE,
        "the activation cache needs %.0f bytes (%.2f GB) in %s on %s, where %.0f bytes (%.2f GB) are free; ways out: "
        "%s%scache: none (every epoch runs the backbone), or another cache.dir",
        need, need / 1e9, dir, pac_world_host(), there, there / 1e9, shard, type);
}

static pac_err compare(const char *dir, uint64_t run, const pac_cache_layout *l, const pac_plan *plan, pac_redistribute how)
{
    int64_t there = 0;
    double old = 0, need = directory_bytes(dir, run, l, plan, how);
    if (pac_node_rank() != 0)
        return PAC_OK;
    PAC_TRY(disk_free(dir, &there));
    PAC_TRY(cache_each_file(dir, add_size, &old, NULL));
    if (need <= (double)there + old)
        return PAC_OK;
    return refuse(dir, l, need, (double)there + old, directory_bytes(dir, run, l, plan, PAC_REDIST_SHARD));
}

pac_err pac_cache_check_space(const char *dir, const pac_cache_layout *l, const pac_layout *plan, pac_redistribute how)
{
    uint64_t run = cache_new_run();
    pac_err err;
    PAC_TRY(pac_agree(pac_world(), cache_check_layout(l)));
    PAC_TRY(pac_bcast(pac_world(), &run, sizeof run, 0));
    PAC_GO(pac_agree(pac_world(), leave_probe(dir, run)));
    PAC_GO(pac_agree(pac_world(), compare(dir, run, l, plan->plan, how))); /* all have looked for the probes */
out:
    remove_probe(dir, run);
    return err;
}
