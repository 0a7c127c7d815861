/* What a command writes must not replace what it reads: a run's configuration, devices, plan, data, model or adapters. */
#include "cli.h"

#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>

static bool same(const char *a, const char *b, struct stat *of)
{
    struct stat other;
    return stat(a, of) == 0 && stat(b, &other) == 0 && of->st_dev == other.st_dev && of->st_ino == other.st_ino;
}

static bool is_file(const char *path, const char *file)
{
    struct stat s;
    return file != NULL && file[0] != '\0' && same(path, file, &s) && S_ISREG(s.st_mode);
}

/* Files that are there; others may be put beside. */
static bool is_in(const char *path, const char *dir)
{
    char copy[PAC_PATH];
    struct stat s;
    if (dir == NULL || dir[0] == '\0' || stat(path, &s) != 0 || !S_ISREG(s.st_mode))
        return false;
    snprintf(copy, sizeof copy, "%s", path);
    return same(dirname(copy), dir, &s);
}

pac_err keep_inputs(const pac_args *a, const pac_config *c)
{
    const char *writes[] = {a->output, a->logits, a->predictions};
    const char *files[] = {a->plan,
                           a->profile,
                           a->devices,
                           a->input,
                           a->nwords > 0 ? a->words[0] : NULL,
                           c != NULL ? c->task.train : NULL,
                           c != NULL ? c->task.eval : NULL};
    const char *dirs[] = {a->model, a->adapters, c != NULL ? c->model.path : NULL};
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        bool reads = false;
        for (size_t j = 0; j < sizeof files / sizeof files[0] && writes[i] != NULL; j++)
            reads = reads || is_file(writes[i], files[j]);
        for (size_t j = 0; j < sizeof dirs / sizeof dirs[0] && writes[i] != NULL; j++)
            reads = reads || is_in(writes[i], dirs[j]);
        PAC_CHECK(!reads, PAC_EUSAGE, "%s is read and would be replaced: give the result another name", writes[i]);
    }
    return PAC_OK;
}
