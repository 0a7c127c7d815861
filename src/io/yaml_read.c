/* Typed reading of YAML nodes: every message says file, line, key, what was found and what is expected. */
#include "pac/yaml.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD = 64, LONGEST_DISTANCE = 3 };

static pac_err scalar(const pac_yaml_node *n, const char *what, const char *expected, const char **text)
{
    if (pac_yaml_kind_of(n) != PAC_YAML_SCALAR)
        return pac_yaml_fail(n, "%s: expected %s, not a %s", what, expected,
                             pac_yaml_kind_of(n) == PAC_YAML_LIST ? "list" : "map");
    *text = pac_yaml_text(n);
    return PAC_OK;
}

pac_err pac_yaml_int(const pac_yaml_node *n, const char *what, int64_t min, int64_t max, int64_t *out)
{
    const char *text = "";
    PAC_TRY(scalar(n, what, "a whole number", &text));
    char *end;
    errno = 0;
    int64_t v = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno != 0 || strchr(" \t\n", *text) != NULL)
        return pac_yaml_fail(n, "%s: '%.80s' is not a whole number", what, text);
    if (v < min && max == INT64_MAX)
        return pac_yaml_fail(n, "%s: %" PRId64 " is too small, at least %" PRId64 " is allowed", what, v, min);
    if (v < min || v > max)
        return pac_yaml_fail(n, "%s: %" PRId64 " is not between %" PRId64 " and %" PRId64, what, v, min, max);
    *out = v;
    return PAC_OK;
}

/* A finite decimal number at the start of text; *end behind it, or NULL. No hexadecimal, inf or nan. */
static double decimal(const char *text, const char **end)
{
    size_t digits = strspn(text, "0123456789+-.eE");
    char *stop;
    double v = strtod(text, &stop);
    *end = stop != text && (size_t)(stop - text) <= digits && isfinite(v) ? stop : NULL;
    return v;
}

pac_err pac_yaml_double(const pac_yaml_node *n, const char *what, double min, double max, double *out)
{
    const char *text = "", *end;
    PAC_TRY(scalar(n, what, "a number", &text));
    double v = decimal(text, &end);
    if (end == NULL || *end != '\0')
        return pac_yaml_fail(n, "%s: '%.80s' is not a number", what, text);
    if (v < min && max >= DBL_MAX)
        return pac_yaml_fail(n, "%s: %g is too small, at least %g is allowed", what, v, min);
    if (v < min || v > max)
        return pac_yaml_fail(n, "%s: %g is not between %g and %g", what, v, min, max);
    *out = v;
    return PAC_OK;
}

pac_err pac_yaml_bool(const pac_yaml_node *n, const char *what, bool *out)
{
    const char *text = "";
    PAC_TRY(scalar(n, what, "true or false", &text));
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0)
        return pac_yaml_fail(n, "%s: '%.80s' is neither true nor false", what, text);
    *out = yes;
    return PAC_OK;
}

bool pac_yaml_byte_unit(const char *unit, double *bytes)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"", 1},
                 {"B", 1},
                 {"kB", 1e3},
                 {"KB", 1e3},
                 {"MB", 1e6},
                 {"GB", 1e9},
                 {"TB", 1e12},
                 {"KiB", 1024.0},
                 {"MiB", 1048576.0},
                 {"GiB", 1073741824.0},
                 {"TiB", 1099511627776.0}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0) {
            *bytes = units[i].bytes;
            return true;
        }
    return false;
}

pac_err pac_yaml_bytes(const pac_yaml_node *n, const char *what, double *out)
{
    const char *text = "", *end;
    double unit;
    PAC_TRY(scalar(n, what, "a size such as 16 GiB", &text));
    double v = decimal(text, &end);
    if (end == NULL || v < 0 || !pac_yaml_byte_unit(end + strspn(end, " "), &unit) || !isfinite(v * unit))
        return pac_yaml_fail(n, "%s: '%.80s' is not a size such as 1048576, 200 MB or 16 GiB", what, text);
    *out = v * unit;
    return PAC_OK;
}

/* "a, b or c" of names[], cut at the size of the buffer. */
static const char *listed(const char *const *names, char *buf, size_t size)
{
    size_t used = 0;
    buf[0] = '\0';
    for (size_t i = 0; names[i] != NULL && used < size; i++) {
        const char *joint = i == 0 ? "" : names[i + 1] == NULL ? " or " : ", ";
        int wrote = snprintf(buf + used, size - used, "%s%s", joint, names[i]);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    return buf;
}

pac_err pac_yaml_choice(const pac_yaml_node *n, const char *what, const char *const *names, int64_t *out)
{
    char all[512];
    const char *text = "";
    PAC_TRY(scalar(n, what, listed(names, all, sizeof all), &text));
    for (int64_t i = 0; names[i] != NULL; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return PAC_OK;
        }
    const char *nearest = pac_nearest(text, names);
    if (nearest != NULL)
        return pac_yaml_fail(n, "%s: unknown value '%.80s'; did you mean '%s'? (known: %s)", what, text, nearest, all);
    return pac_yaml_fail(n, "%s: unknown value '%.80s' (known: %s)", what, text, all);
}

pac_err pac_yaml_known_keys(const pac_yaml_node *map, const char *what, const char *const *keys)
{
    const char *dot = *what != '\0' ? "." : "";
    if (pac_yaml_kind_of(map) != PAC_YAML_MAP)
        return pac_yaml_fail(map, "%s: expected a map of keys and values", *what != '\0' ? what : "file");
    for (int64_t i = 0; i < pac_yaml_count(map); i++) {
        const char *key = pac_yaml_key(map, i);
        bool known = false;
        for (size_t k = 0; keys[k] != NULL && !known; k++)
            known = strcmp(key, keys[k]) == 0;
        if (known)
            continue;
        char all[512];
        const pac_yaml_node *n = pac_yaml_item(map, i);
        const char *nearest = pac_nearest(key, keys);
        if (nearest != NULL)
            return pac_yaml_fail_key(n, "unknown key '%s%s%.80s'; did you mean '%s'?", what, dot, key, nearest);
        return pac_yaml_fail_key(n, "unknown key '%s%s%.80s' (known: %s)", what, dot, key, listed(keys, all, sizeof all));
    }
    return PAC_OK;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits (insert, delete, replace, swap neighbours) between two words of at most LONGEST_WORD letters: optimal string alignment.
 */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][LONGEST_WORD + 1], m = strlen(b), n = strlen(a);
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3], *above = rows[(i - 1) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]), least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

const char *pac_nearest(const char *word, const char *const *known)
{
    size_t letters = strlen(word);
    if (letters == 0 || letters > LONGEST_WORD)
        return NULL;
    /* a word of which more than half is wrong is another word */
    size_t limit = letters < 2 ? 1 : letters / 2 < LONGEST_DISTANCE ? letters / 2 : LONGEST_DISTANCE;
    size_t best = limit + 1;
    const char *nearest = NULL;
    for (size_t i = 0; known[i] != NULL; i++) {
        size_t d = strlen(known[i]) <= LONGEST_WORD ? edit_distance(word, known[i]) : SIZE_MAX;
        if (d < best) {
            best = d;
            nearest = known[i];
        }
    }
    return nearest;
}
