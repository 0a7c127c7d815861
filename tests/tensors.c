/*
 * usage: tensors near A B     the same tensors, each within NEAR of its largest value
 *        tensors part A B     all tensors of A are in B, within the same; B may have more
 *        tensors list FILE    a line each: name [shape]
 *        tensors spiece DIR   writes DIR/spiece.model, the tiny SentencePiece model of tests/unit
 */
#include "unit/tiny_spm.h"

#include "pac/safetensors.h"

#include <math.h>

static const double NEAR = 1e-5; /* float32 sums in another order, through a few layers */

static int fail(const char *what)
{
    printf("%s: %s\n", what, pac_err_message());
    return 2;
}

static double apart(const pac_tensor *a, const pac_tensor *b, int64_t n)
{
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)((const float *)a->data)[i], y = (double)((const float *)b->data)[i];
        if (isnan(x) && isnan(y))
            continue;
        if (isnan(x) || isnan(y))
            return INFINITY;
        worst = fmax(worst, fabs(x - y));
        largest = fmax(largest, fabs(x));
    }
    return worst > 0 ? worst / largest : 0;
}

static int near(const char *one, const char *two, bool part)
{
    pac_st *a, *b;
    double worst = 0;
    if (pac_st_open(one, &a) != PAC_OK || pac_st_open(two, &b) != PAC_OK)
        return fail(one);
    bool same = (part || pac_st_count(a) == pac_st_count(b)) && pac_st_count(a) > 0;
    for (int64_t i = 0; i < pac_st_count(a) && same; i++) {
        pac_tensor x, y;
        int64_t n = 1;
        pac_st_view(a, i, &x);
        pac_st_find(b, pac_st_name(a, i), &same, &y);
        same = same && x.ndim == y.ndim && x.dtype == PAC_F32 && y.dtype == PAC_F32;
        for (int k = 0; k < x.ndim && same; k++) {
            same = x.shape[k] == y.shape[k];
            n *= x.shape[k];
        }
        worst = same ? fmax(worst, apart(&x, &y, n)) : INFINITY;
    }
    printf("%s, %s: %lld tensors, largest difference %.2g\n", one, two, (long long)pac_st_count(a), worst);
    pac_st_close(&a);
    pac_st_close(&b);
    return same && worst <= NEAR ? 0 : 1;
}

static int list(const char *path)
{
    pac_st *f;
    if (pac_st_open(path, &f) != PAC_OK)
        return fail(path);
    for (int64_t i = 0; i < pac_st_count(f); i++) {
        pac_tensor t;
        pac_st_view(f, i, &t);
        printf("%s [", pac_st_name(f, i));
        for (int k = 0; k < t.ndim; k++)
            printf("%s%lld", k > 0 ? " " : "", (long long)t.shape[k]);
        printf("]\n");
    }
    pac_st_close(&f);
    return 0;
}

static int spiece(const char *dir)
{
    bytes model;
    tiny_model(&model, "", 0);
    write_file(dir, "spiece.model", model.b, model.n);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && (strcmp(argv[1], "near") == 0 || strcmp(argv[1], "part") == 0))
        return near(argv[2], argv[3], argv[1][0] == 'p');
    if (argc == 3 && strcmp(argv[1], "list") == 0)
        return list(argv[2]);
    if (argc == 3 && strcmp(argv[1], "spiece") == 0)
        return spiece(argv[2]);
    return 2;
}
