/* Quantities of cluster files: a number and a unit. A number alone is in the basic unit: FLOP/s, bytes, bytes/s, seconds. */
#include "cluster.h"
#include "file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_UNITS = 16 };

static const struct {
    const char *example;
    struct {
        const char *name;
        double factor;
    } unit[MOST_UNITS];
} known[] = {
    [PAC_Q_FLOPS] = {"1.28 TFLOP/s", {{"FLOP/s", 1}, {"MFLOP/s", 1e6}, {"GFLOP/s", 1e9}, {"TFLOP/s", 1e12}}},
    [PAC_Q_BYTES] = {"16 GiB",
                     {{"B", 1},
                      {"kB", 1e3},
                      {"KB", 1e3},
                      {"MB", 1e6},
                      {"GB", 1e9},
                      {"TB", 1e12},
                      {"KiB", 1024.0},
                      {"MiB", 1048576.0},
                      {"GiB", 1073741824.0},
                      {"TiB", 1099511627776.0}}},
    [PAC_Q_RATE] = {"60 GB/s or 1 Gbit/s",
                    {{"B/s", 1},
                     {"kB/s", 1e3},
                     {"MB/s", 1e6},
                     {"GB/s", 1e9},
                     {"KiB/s", 1024.0},
                     {"MiB/s", 1048576.0},
                     {"GiB/s", 1073741824.0},
                     {"kbit/s", 125},
                     {"Mbit/s", 125e3},
                     {"Gbit/s", 125e6}}},
    [PAC_Q_SECONDS] = {"200 us", {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}}},
    [PAC_Q_NUMBER] = {"64", {{NULL, 0}}},
};

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
    return false;
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

pac_err pac_read_quantity(const pac_yaml_node *n, const char *what, pac_quantity q, double least, double *out)
{
    const char *end;
    double v, factor;
    if (pac_yaml_kind_of(n) != PAC_YAML_SCALAR)
        return pac_yaml_fail(n, "%s must be a quantity such as %s", what, known[q].example);
    const char *text = pac_yaml_text(n);
    if (!decimal(text, &end, &v) || !unit_factor(q, end + strspn(end, " "), &factor))
        return pac_yaml_fail(n, "%s: '%.60s' is not a quantity such as %s", what, text, known[q].example);
    v *= factor;
    if (!(v >= least && v <= PAC_LARGEST))
        return pac_yaml_fail(n, "%s: '%.60s' must be at least %g and at most %g in the basic unit", what, text, least,
                             PAC_LARGEST);
    *out = v;
    return PAC_OK;
}
