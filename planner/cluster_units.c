/* Quantities of cluster files: a number and a unit. A number alone is in the basic unit: FLOP/s, bytes, bytes/s, seconds. */
#include "cluster.h"
#include "file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_UNITS = 6, LONGEST_UNIT = 16 };

/* Beside bytes and bytes/s, whose units are those of every file. */
static const struct {
    const char *basic, *example;
    struct {
        const char *name;
        double factor;
    } unit[MOST_UNITS];
} known[] = {
    [PAC_Q_FLOPS] = {"FLOP/s", "1.28 TFLOP/s", {{"FLOP/s", 1}, {"MFLOP/s", 1e6}, {"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}}},
    [PAC_Q_BYTES] = {"bytes", "16 GiB", {{NULL, 0}}},
    [PAC_Q_RATE] = {"bytes/s", "60 GB/s or 1 Gbit/s", {{"kbit/s", 125}, {"Mbit/s", 125e3}, {"Gbit/s", 125e6}}},
    [PAC_Q_SECONDS] = {"seconds", "200 us", {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}}},
    [PAC_Q_NUMBER] = {"", "64", {{NULL, 0}}},
};

/* "GB/s" */
static bool bytes_a_second(const char *name, double *out)
{
    char unit[LONGEST_UNIT];
    size_t n = strlen(name);
    if (n < 3 || n >= sizeof unit || strcmp(name + n - 2, "/s") != 0)
        return false;
    memcpy(unit, name, n - 2);
    unit[n - 2] = '\0';
    return pac_yaml_byte_unit(unit, out);
}

static bool unit_factor(pac_quantity q, const char *name, double *out)
{
    *out = 1;
    if (*name == '\0')
        return true;
    for (int i = 0; i < MOST_UNITS && known[q].unit[i].name != NULL; i++)
        if (strcmp(known[q].unit[i].name, name) == 0) {
            *out = known[q].unit[i].factor;
            return true;
        }
    return (q == PAC_Q_BYTES && pac_yaml_byte_unit(name, out)) || (q == PAC_Q_RATE && bytes_a_second(name, out));
}

/* "1 MiB", "100 MB/s", "900 ms": in the largest unit that leaves at least 1. Cut at 32 bytes. */
static const char *with_unit(pac_quantity q, double v, char out[static 32])
{
    static const char *const bytes[] = {"TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB", "B"};
    double best = 0, factor;
    const char *name = known[q].basic;
    for (int i = 0; i < MOST_UNITS && known[q].unit[i].name != NULL && q != PAC_Q_RATE; i++)
        if (known[q].unit[i].factor <= v && known[q].unit[i].factor > best) {
            best = known[q].unit[i].factor;
            name = known[q].unit[i].name;
        }
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0] && best == 0 && (q == PAC_Q_BYTES || q == PAC_Q_RATE); i++)
        if (pac_yaml_byte_unit(bytes[i], &factor) && factor <= v && v / factor == rint(v / factor)) {
            best = factor;
            name = bytes[i];
        }
    const char *joint = v == 0 || *name == '\0' ? "" : " ", *second = q == PAC_Q_RATE && best > 0 ? "/s" : "";
    snprintf(out, 32, "%g%s%.12s%s", best > 0 ? v / best : v, joint, v == 0 ? "" : name, second);
    return out;
}

/* A decimal number without sign; strtod() also reads hexadecimal, inf and nan. */
static bool decimal(const char *text, const char **end, double *out)
{
    size_t digits = strspn(text, "0123456789");
    char *stop;
    if (digits == 0 && !(text[0] == '.' && text[1] >= '0' && text[1] <= '9'))
        return false;
    if (text[digits] == 'x' || text[digits] == 'X')
        return false;
    *out = strtod(text, &stop);
    *end = stop;
    return isfinite(*out);
}

pac_err pac_read_quantity(const pac_yaml_node *n, const char *what, pac_quantity q, pac_limits range, double *out)
{
    const char *end;
    char least[32], most[32];
    double v, factor;
    if (pac_yaml_kind_of(n) != PAC_YAML_SCALAR)
        return pac_yaml_fail(n, "%s must be a quantity such as %s", what, known[q].example);
    const char *text = pac_yaml_text(n);
    if (!decimal(text, &end, &v) || !unit_factor(q, end + strspn(end, " "), &factor))
        return pac_yaml_fail(n, "%s: '%.60s' is not a quantity such as %s", what, text, known[q].example);
    v *= factor;
    if (!(v >= range.least && v <= range.most) && !(v == 0 && range.or_none))
        return pac_yaml_fail(n, "%s: '%.60s' is not between %s and %s%s; check the unit (such as %s; without one it is %s)",
                             what, text, with_unit(q, range.least, least), with_unit(q, range.most, most),
                             range.or_none && range.least > 0 ? " (or 0)" : "", known[q].example,
                             *known[q].basic != '\0' ? known[q].basic : "a number");
    *out = v;
    return PAC_OK;
}
