/*
 * To be preloaded: on rank FULL_DISK_RANK, writes to HDF5 files fail as on a full disk once FULL_DISK_AFTER of them were made.
 */
#undef _FILE_OFFSET_BITS /* it would rename pwrite, and both names are defined here */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at);
ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at);

static bool is_hdf5(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    return n > 3 && memcmp(path + n - 3, ".h5", 3) == 0;
}

static bool is_full(int fd)
{
    static int writes;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK"), *full = getenv("FULL_DISK_RANK"), *after = getenv("FULL_DISK_AFTER");
    if (rank == NULL || full == NULL || after == NULL || strcmp(rank, full) != 0 || !is_hdf5(fd))
        return false;
    return ++writes > atoi(after);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
    if (!is_full(fd))
        return real(fd, data, bytes, at);
    errno = ENOSPC;
    return -1;
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t at)
{
    return pwrite(fd, data, bytes, at);
}
