/*
 * usage: compare_runs INIT REFERENCE RUN [LOSS MOVED]   (output directories of pac train)
 * Succeeds when every step's loss agrees within LOSS (1e-5) relative and every adapter tensor within MOVED (1e-3) of the
 * distance that the reference moved from INIT.
 */
#include "pac/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double most_loss = 1e-5;  /* f32 sums in another order, and a few optimizer steps on them */
static double most_moved = 1e-3; /* of the distance moved, over the whole network */

enum { MAX_STEPS = 1000 };

static int read_losses(const char *dir, double *loss)
{
    char path[4200], line[4096];
    int n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    FILE *f = fopen(path, "r");
    while (f != NULL && n < MAX_STEPS && fgets(line, sizeof line, f) != NULL) {
        json_t *o = json_loads(line, 0, NULL);
        const char *event = json_string_value(json_object_get(o, "event"));
        if (event != NULL && strcmp(event, "step") == 0)
            loss[n++] = json_number_value(json_object_get(o, "loss"));
        json_decref(o);
    }
    if (f != NULL)
        fclose(f);
    return n;
}

static int compare_losses(const char *reference, const char *run)
{
    static double a[MAX_STEPS], b[MAX_STEPS];
    int n = read_losses(reference, a), m = read_losses(run, b);
    double worst = 0;
    for (int i = 0; i < n && i < m; i++) {
        double d = fabs(a[i] - b[i]) / fabs(a[i]);
        worst = d > worst || isnan(d) ? d : worst;
    }
    printf("%s: %d steps, worst loss difference %.2g", run, m, worst);
    return n == m && n > 0 && worst <= most_loss;
}

static int compare_adapters(const char *init, const char *reference, const char *run)
{
    const char *dirs[3] = {init, reference, run};
    pac_st *f[3];
    double moved = 0, apart = 0;
    for (int i = 0; i < 3; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/adapters/adapters.safetensors", dirs[i]);
        if (pac_st_open(path, &f[i]) != PAC_OK) {
            printf(": %s\n", pac_err_message());
            return 0;
        }
    }
    for (int64_t t = 0; t < pac_st_count(f[1]); t++) {
        pac_tensor v[3];
        for (int i = 0; i < 3; i++) {
            bool found;
            pac_st_find(f[i], pac_st_name(f[1], t), &found, &v[i]);
            if (!found)
                return 0;
        }
        if (pac_tensor_elements(&v[0]) != pac_tensor_elements(&v[1]) ||
            pac_tensor_elements(&v[2]) != pac_tensor_elements(&v[1]))
            return 0;
        for (int64_t k = 0; k < pac_tensor_elements(&v[1]); k++) {
            double x0 = ((float *)v[0].data)[k], x1 = ((float *)v[1].data)[k], x2 = ((float *)v[2].data)[k];
            moved += (x1 - x0) * (x1 - x0);
            apart += (x2 - x1) * (x2 - x1);
        }
    }
    printf(", adapters %.2g of the distance moved\n", sqrt(apart / moved));
    int64_t counts[3] = {pac_st_count(f[0]), pac_st_count(f[1]), pac_st_count(f[2])};
    for (int i = 0; i < 3; i++)
        pac_st_close(&f[i]);
    return counts[0] == counts[1] && counts[1] == counts[2] && moved > 0 && sqrt(apart / moved) <= most_moved;
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 6)
        return 2;
    if (argc == 6) {
        most_loss = strtod(argv[4], NULL);
        most_moved = strtod(argv[5], NULL);
    }
    int losses = compare_losses(argv[2], argv[3]);
    return compare_adapters(argv[1], argv[2], argv[3]) && losses ? 0 : 1;
}
