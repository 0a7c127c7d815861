/*
 * The cache's directory: names of files, which files are ours, removing them.
 *
 * A file is ours if both its name and its first bytes say so; nothing else is ever removed. A file that another process has
 * open is locked by the HDF5 library, which shows that another run still needs it.
 */
#include "internal.h"

#include "pac/clock.h"
#include "pac/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES = 50 };

void cache_path(char out[CACHE_PATH], const char *dir, bool import, int64_t rank)
{
    snprintf(out, CACHE_PATH, "%s/%s-%04lld.h5", dir, import ? "import" : "rank", (long long)rank);
}

pac_err cache_make_dir(const char *dir)
{
    struct stat s;
    PAC_CHECK(strlen(dir) < CACHE_PATH - 64, PAC_EIO, "cache.dir: the path is too long");
    pac_err err = pac_file_make_dirs(dir);
    if (err != PAC_OK)
        return pac_fail_context(err, "cache.dir");
    PAC_CHECK(stat(dir, &s) == 0 && S_ISDIR(s.st_mode), PAC_EIO, "%s: is not a directory; set another cache.dir", dir);
    PAC_CHECK(access(dir, W_OK | X_OK) == 0, PAC_EIO, "%s: the cache's directory cannot be written: %s", dir, strerror(errno));
    return PAC_OK;
}

/* rank-0000.h5, import-0000.h5, with four digits or more. */
static bool has_our_name(const char *name)
{
    const char *p = strncmp(name, "rank-", 5) == 0 ? name + 5 : strncmp(name, "import-", 7) == 0 ? name + 7 : NULL;
    if (p == NULL)
        return false;
    size_t digits = strspn(p, "0123456789");
    return digits >= 4 && strcmp(p + digits, ".h5") == 0;
}

static int only_our_names(const struct dirent *e)
{
    return has_our_name(e->d_name);
}

static pac_err visit_list(const char *dir, struct dirent **list, int n, cache_visit *visit, void *user, int64_t *count)
{
    char path[CACHE_PATH + 256];
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name);
        if (!pac_h5_marked(path, CACHE_MARK))
            continue;
        if (count != NULL)
            (*count)++;
        PAC_TRY(visit(user, path));
    }
    return PAC_OK;
}

pac_err cache_each_file(const char *dir, cache_visit *visit, void *user, int64_t *count)
{
    struct dirent **list;
    if (count != NULL)
        *count = 0;
    int n = scandir(dir, &list, only_our_names, alphasort);
    if (n < 0 && errno == ENOENT)
        return PAC_OK;
    PAC_CHECK(n >= 0, PAC_EIO, "%s: cannot be listed: %s", dir, strerror(errno));
    pac_err err = visit_list(dir, list, n, visit, user, count);
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
    return err;
}

/* Another rank that is about to remove the same file (on a directory of several nodes) locks it for a moment only. */
static bool in_use(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool used = fd >= 0;
    for (int i = 0; i < TRIES && used; i++) {
        used = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        if (used)
            pac_sleep(0.01);
    }
    if (fd >= 0)
        close(fd);
    return used;
}

static pac_err remove_file(void *user, const char *path)
{
    (void)user;
    PAC_CHECK(!in_use(path), PAC_EIO, "%s: in use by another run; wait for it to end or set another cache.dir", path);
    PAC_CHECK(unlink(path) == 0 || errno == ENOENT, PAC_EIO, "%s: cannot be removed: %s", path, strerror(errno));
    return PAC_OK;
}

pac_err cache_remove_files(const char *dir, bool directory_too)
{
    PAC_TRY(cache_each_file(dir, remove_file, NULL, NULL));
    if (directory_too)
        (void)rmdir(dir); /* what else lies there stays, and so does the directory */
    return PAC_OK;
}
