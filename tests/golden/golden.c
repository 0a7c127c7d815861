/* Reading fixtures and measuring distances: shared by the golden tests. */
#include "golden.h"

#include "pac/device.h"

#include <math.h>
#include <stdlib.h>

const char *const golden_models[] = {"t5v10", "t5v11", NULL};

const char *golden_path(const char *model, const char *file)
{
    static char path[4][4096];
    static int next;
    const char *root = getenv("PAC_SOURCE_ROOT");
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/tests/golden/fixtures/%s%s%s", root != NULL ? root : ".", model,
             file != NULL ? "/" : "", file != NULL ? file : "");
    return path[next];
}

pac_st *golden_open(const char *model, const char *file)
{
    pac_st *f = NULL;
    OK(pac_st_open(golden_path(model, file), &f));
    return f;
}

pac_tensor golden_tensor(const pac_st *f, const char *name)
{
    bool found;
    pac_tensor t;
    pac_st_find(f, name, &found, &t);
    if (!found)
        fail_msg("the fixture has no %s", name);
    return t;
}

const float *golden_f32(const pac_st *f, const char *name, int64_t n)
{
    pac_tensor t = golden_tensor(f, name);
    if (t.dtype != PAC_F32 || pac_tensor_elements(&t) != n)
        fail_msg("fixture tensor %s: expected %lld f32 elements, found %lld", name, (long long)n,
                 (long long)pac_tensor_elements(&t));
    return t.data;
}

static const void *optional(const pac_st *f, const char *name)
{
    bool found;
    pac_tensor t;
    pac_st_find(f, name, &found, &t);
    return found ? t.data : NULL;
}

pac_batch golden_batch(const pac_st *f)
{
    pac_tensor soff = golden_tensor(f, "soff");
    pac_batch b = {.B = soff.shape[0] - 1,
                   .soff = soff.data,
                   .sids = golden_tensor(f, "sids").data,
                   .toff = golden_tensor(f, "toff").data,
                   .tids = optional(f, "tids"), /* encoder-only models have no targets */
                   .labels = optional(f, "labels"),
                   .cls = optional(f, "cls"),
                   .value = optional(f, "value"),
                   .aoff = optional(f, "aoff"),
                   .stypes = optional(f, "stypes")};
    b.A = b.aoff != NULL ? golden_tensor(f, "aoff").shape[0] - 1 : b.B;
    return b;
}

double golden_distance(const float *a, const float *b, int64_t n)
{
    double d = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(d / norm) : sqrt(d);
}

void golden_near(const char *what, const float *a, const float *b, int64_t n, double tolerance)
{
    double d = golden_distance(a, b, n);
    if (!(d <= tolerance)) /* NaN fails */
        fail_msg("%s: relative distance %.3g, allowed %.3g", what, d, tolerance);
}

static float *rows_of(pac_arena *keep, int64_t n)
{
    float *x;
    OK(pac_arena_floats(keep, n, &x));
    return x;
}

void golden_rows(const pac_model_desc *d, const pac_model *m, const pac_batch *b, pac_acts *acts, float **final_enc,
                 pac_arena *keep, pac_arena *work)
{
    int64_t D = d->block[0].D, layer = 0;
    float *final[2] = {NULL, NULL};
    for (int s = 0; s < 2 && d->layers[s] > 0; s++) {
        int64_t N = s == PAC_ENC ? b->soff[b->B] : b->toff[b->B];
        float *x = rows_of(keep, N * D);
        OK(pac_model_embed(m, (pac_stack)s, b, x));
        acts->b[s][0] = x;
        for (int64_t i = 0; i < d->layers[s]; i++, layer++) {
            float *y = rows_of(keep, N * D);
            OK(pac_model_block(m, layer, b, s == PAC_DEC ? final[PAC_ENC] : NULL, y, x, work));
            acts->b[s][i + 1] = x = y;
        }
        final[s] = rows_of(keep, N * D);
        OK(pac_model_final(m, (pac_stack)s, final[s], x, N));
    }
    acts->final = final[final[PAC_DEC] != NULL ? PAC_DEC : PAC_ENC];
    *final_enc = final[PAC_ENC];
}

double golden_lm_loss(const pac_backend *be, float *logits, const pac_batch *b, int64_t V, pac_arena *keep)
{
    int64_t T = b->toff[b->B], counted = 0;
    float *loss;
    double sum = 0;
    OK(pac_arena_floats(keep, T, &loss));
    for (int64_t i = 0; i < T; i++)
        counted += b->labels[i] >= 0;
    be->xent(loss, logits, b->labels, T, V, 1.0f / (float)counted, true);
    const float *each = golden_read(be, loss, T);
    for (int64_t i = 0; i < T; i++)
        sum += each[i];
    return sum / (double)counted;
}

static bool device_only;
static const char *word = "";

int golden_arguments(int argc, char **argv)
{
    device_only = argc > 1 && strcmp(argv[1], "--device") == 0;
    word = argc > 2 ? argv[2] : "";
    if (!device_only || pac_device_count() > 0)
        return 0;
    printf("SKIP %s\n", pac_device_absence());
    return 77;
}

bool golden_chosen(const char *fixture)
{
    return strstr(fixture, word) != NULL;
}

int golden_backends(const pac_backend *out[GOLDEN_BACKENDS])
{
    int n = 0;
    if (!device_only)
        OK(pac_backend_find("split", &out[n++]));
    if (pac_device_count() > 0) {
        OK(pac_device_open(0));
        out[n++] = pac_device_backend();
    }
    if (device_only)
        return n;
    OK(pac_backend_find("ref", &out[n++]));
    OK(pac_backend_find("cpu", &out[n++]));
    return n;
}

static pac_arena *copies;

const float *golden_read(const pac_backend *be, const float *x, int64_t n)
{
    float *copy;
    if (be->space == NULL)
        return x;
    if (copies == NULL)
        OK(pac_arena_new(PAC_MEM_OTHER, &copies));
    OK(pac_arena_floats(copies, n, &copy));
    OK(pac_download(be->space, copy, x, n));
    return copy;
}

void golden_forget(void)
{
    pac_arena_free(&copies);
}
