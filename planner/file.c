/* Fields, lists and numbers of plan and profile files; the YAML parser itself is in src/io. */
#include "file.h"

#include "pac/file.h"
#include "pac/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

static const char *joined(const char *what, const char *key, char buf[static 128])
{
    snprintf(buf, 128, "%s%s%s", what, *what == '\0' ? "" : ".", key);
    return buf;
}

pac_err pac_field(const pac_yaml_node *map, const char *what, const char *key, const pac_yaml_node **out)
{
    char path[128];
    const pac_yaml_node *n = pac_yaml_get(map, key);
    if (n == NULL)
        return pac_yaml_fail(map, "%s is missing", joined(what, key, path));
    *out = n;
    return PAC_OK;
}

pac_err pac_want_map(const pac_yaml_node *n, const char *what, const char *const *keys)
{
    if (pac_yaml_kind_of(n) != PAC_YAML_MAP)
        return pac_yaml_fail(n, "%s must be a map of keys and values", *what == '\0' ? "the file" : what);
    return pac_yaml_known_keys(n, what, keys);
}

pac_err pac_want_list(const pac_yaml_node *n, const char *what, int64_t min, int64_t max)
{
    if (pac_yaml_kind_of(n) != PAC_YAML_LIST)
        return pac_yaml_fail(n, "%s must be a list", what);
    int64_t count = pac_yaml_count(n);
    if (count >= min && count <= max)
        return PAC_OK;
    if (min == max)
        return pac_yaml_fail(n, "%s has %lld items, must have %lld", what, (long long)count, (long long)min);
    return pac_yaml_fail(n, "%s has %lld items, must have %lld to %lld", what, (long long)count, (long long)min,
                         (long long)max);
}

pac_err pac_read_numbers(const pac_yaml_node *list, const char *what, int64_t n, double lo, double hi, double *out)
{
    PAC_TRY(pac_want_list(list, what, n, n));
    for (int64_t i = 0; i < n; i++)
        PAC_TRY(pac_yaml_double(pac_yaml_item(list, i), what, lo, hi, &out[i]));
    return PAC_OK;
}

pac_err pac_read_text(const pac_yaml_node *n, const char *what, char *out, size_t bytes)
{
    if (pac_yaml_kind_of(n) != PAC_YAML_SCALAR)
        return pac_yaml_fail(n, "%s must be a text", what);
    if (strlen(pac_yaml_text(n)) >= bytes)
        return pac_yaml_fail(n, "%s is longer than %zu bytes", what, bytes - 1);
    strcpy(out, pac_yaml_text(n));
    return PAC_OK;
}

pac_err pac_read_number(const pac_yaml_node *map, const char *what, const char *key, double lo, double *out)
{
    char path[128];
    const pac_yaml_node *n;
    PAC_TRY(pac_field(map, what, key, &n));
    return pac_yaml_double(n, joined(what, key, path), lo, PAC_LARGEST, out);
}

pac_err pac_read_count(const pac_yaml_node *map, const char *what, const char *key, int64_t lo, int64_t hi, int64_t *out)
{
    char path[128];
    const pac_yaml_node *n;
    PAC_TRY(pac_field(map, what, key, &n));
    return pac_yaml_int(n, joined(what, key, path), lo, hi, out);
}

/* ---- writing ---- */

void pac_emit(pac_emitter *e, const char *fmt, ...)
{
    char piece[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(piece, sizeof piece, fmt, args);
    va_end(args);
    void *text = e->text;
    if (e->err == PAC_OK && (n < 0 || (size_t)n >= sizeof piece))
        e->err = pac_fail(PAC_EINTERNAL, "a piece of %d bytes is too long to emit", n);
    if (e->err == PAC_OK)
        e->err = pac_mem_grow(PAC_MEM_OTHER, &text, &e->capacity, e->used + n + 1, 1);
    if (e->err != PAC_OK)
        return;
    e->text = text;
    memcpy(e->text + e->used, piece, (size_t)n + 1);
    e->used += n;
}

void pac_emit_number(pac_emitter *e, double x, int digits)
{
    if (!isfinite(x) && e->err == PAC_OK)
        e->err = pac_fail(PAC_EINVAL, "cannot write the number %g", x);
    char text[40] = "";
    double near = x;
    for (int k = 1; k <= digits; k++) {
        snprintf(text, sizeof text, "%.*g", k, x);
        near = strtod(text, NULL);
        if (near == x)
            break;
    }
    if (x == rint(x))
        near = x; /* counts keep all digits */
    if (near == rint(near) && fabs(near) < 1e15)
        pac_emit(e, "%.0f", near); /* never 1e+06 */
    else
        pac_emit(e, "%s", text);
}

void pac_emit_numbers(pac_emitter *e, const double *x, int64_t n, int digits, int indent)
{
    enum { A_LINE = 8 };
    pac_emit(e, "[");
    for (int64_t i = 0; i < n; i++) {
        if (i > 0 && i % A_LINE == 0)
            pac_emit(e, ",\n%*s", indent, "");
        else if (i > 0)
            pac_emit(e, ", ");
        pac_emit_number(e, x[i], digits);
    }
    pac_emit(e, "]");
}

void pac_emit_text(pac_emitter *e, const char *s)
{
    pac_emit(e, "\"");
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            pac_emit(e, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            pac_emit(e, "\\x%02x", c);
        else
            pac_emit(e, "%c", c);
    }
    pac_emit(e, "\"");
}

pac_err pac_emit_save(pac_emitter *e, const char *path)
{
    pac_err err = e->err != PAC_OK ? pac_fail_context(e->err, "%s", path) : pac_file_replace_text(path, e->text);
    pac_mem_free(e->text);
    *e = (pac_emitter){0};
    return err;
}
