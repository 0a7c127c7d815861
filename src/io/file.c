/* Whole files: bounded reading, atomic replacing. */
#include "pac/file.h"

#include "pac/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, READ_AT_ONCE = 1 << 16 };

pac_err pac_file_load(const char *path, size_t limit, char **text, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    PAC_CHECK(f != NULL, PAC_EIO, "%s: cannot open: %s", path, strerror(errno));
    pac_err err = PAC_OK;
    void *buf = NULL;
    int64_t capacity = 0;
    size_t used = 0, got;
    do {
        PAC_GO(pac_mem_grow(PAC_MEM_OTHER, &buf, &capacity, (int64_t)used + READ_AT_ONCE + 1, 1));
        got = fread((char *)buf + used, 1, READ_AT_ONCE, f);
        used += got;
    } while (got > 0 && used <= limit);
    if (ferror(f))
        err = pac_fail(PAC_EIO, "%s: cannot read: %s", path, strerror(errno));
    else if (used > limit)
        err = pac_fail(PAC_EDATA, "%s: larger than %zu bytes", path, limit);
    if (err != PAC_OK)
        goto out;
    ((char *)buf)[used] = '\0';
    *text = buf;
    buf = NULL;
    if (bytes != NULL)
        *bytes = used;
out:
    pac_mem_free(buf);
    fclose(f);
    return err;
}

static pac_err write_fault(const char *path, const char *doing, size_t total)
{
    if (errno == ENOSPC || errno == EDQUOT)
        return pac_fail(PAC_ENOSPACE, "%s: no space left for %zu bytes: free some or choose another disk", path, total);
    return pac_fail(PAC_EIO, "%s: cannot %s: %s%s", path, doing, strerror(errno),
                    errno == ENOENT ? ": make its directory first" : "");
}

static pac_err write_all(int fd, const char *path, const pac_piece *piece, size_t total)
{
    const char *from = piece->data;
    for (size_t left = piece->bytes; left > 0;) {
        ssize_t wrote = write(fd, from, left < (1u << 30) ? left : (1u << 30));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return write_fault(path, "write", total);
        from += wrote;
        left -= (size_t)wrote;
    }
    return PAC_OK;
}

/* The rename itself must reach the disk too. Not every file system can do this, and the content is safe without it. */
static void sync_directory(const char *path)
{
    char copy[PATH_BYTES + 8];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

static pac_err write_pieces(int fd, const char *path, const pac_piece *pieces, int64_t n, size_t *total)
{
    *total = 0;
    for (int64_t i = 0; i < n; i++)
        *total += pieces[i].bytes;
    for (int64_t i = 0; i < n; i++)
        PAC_TRY(write_all(fd, path, &pieces[i], *total));
    return PAC_OK;
}

/* A device or a pipe (/dev/stdout, /dev/null) takes the content; it is never renamed away. */
static pac_err write_through(const char *path, const pac_piece *pieces, int64_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return write_fault(path, "write", 0);
    size_t total;
    pac_err err = write_pieces(fd, path, pieces, n, &total);
    if (close(fd) != 0 && err == PAC_OK)
        err = write_fault(path, "write", total);
    return err;
}

pac_err pac_file_replace(const char *path, const pac_piece *pieces, int64_t n)
{
    char tmp[PATH_BYTES + 8];
    struct stat there;
    PAC_CHECK(strlen(path) < PATH_BYTES, PAC_EIO, "%.200s...: path too long", path);
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return write_through(path, pieces, n);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return write_fault(path, "create", 0);
    size_t total;
    pac_err err = write_pieces(fd, tmp, pieces, n, &total);
    if (err == PAC_OK && fsync(fd) != 0)
        err = write_fault(tmp, "write", total);
    if (close(fd) != 0 && err == PAC_OK)
        err = write_fault(tmp, "write", total);
    if (err == PAC_OK && rename(tmp, path) != 0)
        err = write_fault(path, "replace", total);
    if (err != PAC_OK)
        unlink(tmp);
    else
        sync_directory(path);
    return err;
}

pac_err pac_file_replace_text(const char *path, const char *text)
{
    pac_piece piece = {text, strlen(text)};
    return pac_file_replace(path, &piece, 1);
}

pac_err pac_file_make_dirs(const char *dir)
{
    char path[PATH_BYTES];
    PAC_CHECK(dir[0] != '\0' && strlen(dir) < PATH_BYTES, PAC_EIO, "%.200s: the path of a directory is empty or too long", dir);
    strcpy(path, dir);
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        PAC_CHECK(mkdir(path, 0777) == 0 || errno == EEXIST, PAC_EIO, "%s: cannot create directory: %s", path, strerror(errno));
        if (end == '\0')
            return PAC_OK;
        *p = end;
    }
}

pac_err pac_file_scratch(const char *dir, size_t bytes, void **out)
{
    char path[4096];
    PAC_CHECK(snprintf(path, sizeof path, "%s/.pac-XXXXXX", dir) < (int)sizeof path, PAC_EIO, "%s: the path is too long", dir);
    int fd = mkstemp(path);
    if (fd < 0)
        return write_fault(dir, "create a file in it", bytes);
    unlink(path);
    pac_err err = PAC_OK;
    errno = posix_fallocate(fd, 0, (off_t)(bytes > 0 ? bytes : 1)); /* else a full disk would be a fault on access */
    void *p = MAP_FAILED;
    if (errno != 0)
        err = write_fault(dir, "write a file in it", bytes);
    else if ((p = mmap(NULL, bytes > 0 ? bytes : 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        err = pac_fail(PAC_ENOMEM, "%s: cannot map %zu bytes: %s", path, bytes, strerror(errno));
    close(fd);
    if (err == PAC_OK)
        *out = p;
    return err;
}

void pac_file_scratch_free(void *p, size_t bytes)
{
    if (p != NULL)
        munmap(p, bytes > 0 ? bytes : 1);
}
