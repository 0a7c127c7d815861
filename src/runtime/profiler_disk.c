/*
 * The disk under cache.dir: how fast it takes and gives back a file, and how much room it has. All ranks of a node measure at
 * once, as they write and read at once in training. The file has no name, so nothing is left whatever happens.
 */
#include "profiler.h"
#include "pac/clock.h"
#include "pac/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { BLOCK = 1 << 20, MOST_BLOCKS = 64 };
static const double seconds_each_way = 0.6, part_of_space = 0.1;

/* Blocks are written and synchronised a few at a time, so that a slow disk ends the measurement in time. */
static double write_speed(int fd, const char *block, int64_t most)
{
    double start = pac_now(), seconds = 0;
    int64_t n = 0;
    while (n < most && seconds < seconds_each_way) {
        for (int64_t turn = 0; turn < 8 && n < most; turn++, n++)
            if (write(fd, block, BLOCK) != BLOCK)
                return 0;
        if (fsync(fd) != 0)
            return 0;
        seconds = pac_now() - start;
    }
    return (double)n * BLOCK / (seconds + 1e-9);
}

/* What was written comes from the disk again: its pages are dropped first. */
static double read_speed(int fd, char *block)
{
    if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        return 0;
    double start = pac_now(), bytes = 0, seconds = 0;
    ssize_t got = 1;
    while (got > 0 && seconds < seconds_each_way) {
        got = read(fd, block, BLOCK);
        bytes += got > 0 ? (double)got : 0;
        seconds = pac_now() - start;
    }
    return bytes > 0 ? bytes / (seconds + 1e-9) : 0;
}

/* dir: the part of the cache's directory that exists. */
static pac_err open_nameless(const char *cache, const char *dir, int *fd)
{
    char path[PAC_PATH + 32];
    snprintf(path, sizeof path, "%s/pac-profile-XXXXXX", dir);
    *fd = mkstemp(path);
    PAC_CHECK(*fd >= 0, PAC_EIO, "%s: nothing can be written in %s: %s (choose another cache.dir, or cache: none)", cache, dir,
              strerror(errno));
    unlink(path);
    return PAC_OK;
}

static pac_err measure_disk(const char *cache, const char *dir, char *block, pac_device *d)
{
    struct statvfs s;
    int fd;
    PAC_CHECK(statvfs(dir, &s) == 0, PAC_EIO, "%s: free space is not known: %s", dir, strerror(errno));
    PAC_TRY(open_nameless(cache, dir, &fd)); /* also on a full disk, for an error if it cannot be */
    d->disk_space = (double)s.f_bavail * (double)s.f_frsize;
    int64_t fit = (int64_t)(d->disk_space * part_of_space / BLOCK), most = fit < MOST_BLOCKS ? fit : MOST_BLOCKS;
    for (int64_t i = 0; i < BLOCK / 8; i++)
        ((uint64_t *)(void *)block)[i] = pac_rng_u64(1, PAC_STREAM_TEST, (uint64_t)i); /* nothing that a disk could compress */
    d->disk_write = most > 0 ? write_speed(fd, block, most) : 0;
    d->disk_read = d->disk_write > 0 ? read_speed(fd, block) : 0;
    close(fd);
    return PAC_OK;
}

/* The directory, or the nearest of its parents that exists: it is made there. */
static void existing_part(char *dir)
{
    while (access(dir, F_OK) != 0) {
        char *slash = strrchr(dir, '/');
        if (slash == NULL || slash == dir) {
            strcpy(dir, slash == NULL ? "." : "/");
            return;
        }
        *slash = '\0';
    }
}

pac_err profile_disk(const pac_config *c, pac_device *d)
{
    char dir[PAC_PATH];
    void *block;
    PAC_TRY(pac_mem_alloc(PAC_MEM_CACHE, BLOCK, &block));
    snprintf(dir, sizeof dir, "%s", c->cache.dir);
    existing_part(dir);
    pac_err err = measure_disk(c->cache.dir, dir, block, d);
    pac_mem_free(block);
    return err;
}
