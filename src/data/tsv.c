/*
 * Tab-separated rows as GLUE has them: a header row, columns found by name, every tab separates, quotes are text.
 */
#include "lines.h"

#include <stdio.h>
#include <string.h>

/* Cut `line` at its tabs; *next is the rest after the first field, NULL after the last. */
static char *cut(char **next)
{
    char *field = *next;
    char *tab = strchr(field, '\t');
    if (tab != NULL)
        *tab = '\0';
    *next = tab != NULL ? tab + 1 : NULL;
    return field;
}

static void join(const char *const *names, int64_t n, char *out, size_t bytes)
{
    size_t used = 0;
    for (int64_t i = 0; i < n && used < bytes; i++)
        used += (size_t)snprintf(out + used, bytes - used, "%s%s", i > 0 ? ", " : "", names[i]);
}

pac_err pac_tsv_open(pac_lines *in, const char *const *names, int64_t n, pac_tsv *out)
{
    pac_tsv t = {.in = in, .wanted = n};
    char expected[256] = "";
    join(names, n, expected, sizeof expected);
    for (int64_t i = 0; i < n; i++)
        t.at[i] = -1;
    char *line;
    PAC_TRY(pac_lines_next(in, &line));
    for (char *rest = line; rest != NULL; t.columns++) {
        const char *field = cut(&rest);
        for (int64_t i = 0; i < n; i++) {
            if (strcmp(field, names[i]) != 0)
                continue;
            if (t.at[i] >= 0)
                return pac_lines_fail(in, "column \"%s\" appears twice in the header row", names[i]);
            t.at[i] = t.columns;
        }
    }
    for (int64_t i = 0; i < n; i++)
        if (t.at[i] < 0)
            return pac_lines_fail(in, "no column \"%s\" in the header row; expected tab-separated columns: %s", names[i],
                                  expected);
    *out = t;
    return PAC_OK;
}

pac_err pac_tsv_next(pac_tsv *t, const char **field)
{
    char *line;
    PAC_TRY(pac_lines_next(t->in, &line));
    field[0] = NULL;
    if (line == NULL)
        return PAC_OK;
    int64_t columns = 0;
    for (char *rest = line; rest != NULL; columns++) {
        const char *s = cut(&rest);
        for (int64_t i = 0; i < t->wanted; i++)
            if (t->at[i] == columns)
                field[i] = s;
    }
    if (columns != t->columns)
        return pac_lines_fail(t->in, "%lld tab-separated fields; the header row has %lld", (long long)columns,
                              (long long)t->columns);
    return PAC_OK;
}
