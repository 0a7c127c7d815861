/*
 * The directory of an export: made beside its final place and renamed at the end, so that nobody sees half of one, and nothing
 * that is there already is touched.
 */
#include "export.h"
#include "pac/file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_COPIED = 256 << 20, ROOM = 32 }; /* ROOM: for an ending behind a path */

/* What a model's directory may hold beside config and weights. */
static const char *const companions[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
};

static bool is_empty(const char *dir)
{
    DIR *d = opendir(dir);
    bool empty = d != NULL;
    for (struct dirent *f; empty && (f = readdir(d)) != NULL;)
        empty = strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0;
    if (d != NULL)
        closedir(d);
    return empty;
}

static pac_err check_vacant(const char *out)
{
    struct stat st;
    if (lstat(out, &st) != 0)
        return PAC_OK;
    PAC_CHECK(is_empty(out), PAC_EIO, "%s exists and is no empty directory: choose another or remove it first", out);
    return PAC_OK;
}

/* A directory that is there by its real name: a link, or "..", cannot be replaced. */
static pac_err real_name(const char *out, char *path)
{
    char real[PATH_MAX], here[PATH_MAX];
    if (realpath(out, real) == NULL)
        return PAC_OK;
    PAC_CHECK(getcwd(here, sizeof here) == NULL || strcmp(here, real) != 0, PAC_EUSAGE,
              "export: %s is the working directory, which cannot be replaced: name another", out);
    PAC_CHECK(strlen(real) + ROOM < PAC_PATH, PAC_EUSAGE, "%s: path too long", real);
    strcpy(path, real);
    return PAC_OK;
}

/* `out` without slashes at its end, and without links where it is there. */
static pac_err final_name(const char *out, char *path)
{
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        n--;
    PAC_CHECK(n > 0 && n + ROOM < PAC_PATH, PAC_EUSAGE, "export: the path OUT is empty or too long");
    memcpy(path, out, n);
    path[n] = '\0';
    return real_name(out, path);
}

static pac_err make_parent(const char *path)
{
    char parent[PAC_PATH];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL || slash == parent)
        return PAC_OK;
    *slash = '\0';
    return pac_file_make_dirs(parent);
}

pac_err export_dir_new(const char *out, char *dir)
{
    char path[PAC_PATH], made[PAC_PATH];
    PAC_TRY(final_name(out, path));
    PAC_TRY(check_vacant(path));
    PAC_TRY(make_parent(path));
    PAC_CHECK(snprintf(made, sizeof made, "%s.tmp-XXXXXX", path) < (int)sizeof made, PAC_EUSAGE, "%s: path too long", out);
    PAC_CHECK(mkdtemp(made) != NULL, PAC_EIO, "%s: cannot create directory: %s", path, strerror(errno));
    mode_t mask = umask(0);
    umask(mask);
    chmod(made, 0777 & ~mask); /* mkdtemp makes it private */
    strcpy(dir, made);
    return PAC_OK;
}

pac_err export_dir_publish(const char *dir, const char *out)
{
    char path[PAC_PATH];
    PAC_TRY(final_name(out, path));
    PAC_TRY(check_vacant(path));
    PAC_CHECK(rename(dir, path) == 0, PAC_EIO, "%s: cannot rename %s to it: %s", path, dir, strerror(errno));
    return PAC_OK;
}

void export_dir_remove(const char *dir)
{
    DIR *d = opendir(dir);
    if (d == NULL)
        return;
    for (struct dirent *f; (f = readdir(d)) != NULL;)
        unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    rmdir(dir);
}

static pac_err copy_file(const char *from, const char *to)
{
    char *text = NULL;
    size_t bytes = 0;
    PAC_TRY(pac_file_load(from, MAX_COPIED, &text, &bytes));
    const pac_piece all = {text, bytes};
    pac_err err = pac_file_replace(to, &all, 1);
    pac_mem_free(text);
    return err;
}

pac_err export_copy_files(const exporter *e)
{
    char from[PAC_PATH], to[PAC_PATH];
    struct stat st;
    for (size_t i = 0; i < sizeof companions / sizeof companions[0]; i++) {
        PAC_TRY(adapters_path(from, e->job->desc.dir, companions[i]));
        PAC_TRY(adapters_path(to, e->dir, companions[i]));
        if (stat(from, &st) == 0 && S_ISREG(st.st_mode))
            PAC_TRY(copy_file(from, to));
    }
    return PAC_OK;
}
