/*
 * Training steps of T5 with parallel adapters on the device, on the library's public functions alone: no MPI, files of the
 * cache, or configuration, so that cuda/build_bare.sh can build it. The shapes and phases are those of torch_step.py:
 *
 *   hybrid  frozen backbone forward, side network forward and backward, AdamW
 *   cached  the same without the backbone; rows on the device already
 *   fed     cached, with each step's rows copied from the host's pinned memory while the step before computes
 *
 *   cuda_steps [--models a,b] [--precisions f32,tf32,bf16] [--batch 16] [--source 128] [--target 1] [--rounds 30] [--dir DIR]
 *
 * One JSON object a line. A model is a name that init-model knows, with random weights in DIR, or a directory. Ends with 77
 * where there is no device.
 */
#include "pac/clock.h"
#include "pac/device.h"
#include "pac/model.h"
#include "pac/rng.h"
#include "pac/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WARM_UP = 5 };

extern int64_t emu_waited(void) __attribute__((weak)); /* tests/cuda/emu: how often the host waited */
extern int64_t emu_products(void) __attribute__((weak));
static int64_t waited_inside; /* of steps */

static void must(pac_err err)
{
    if (err == PAC_OK)
        return;
    fprintf(stderr, "cuda_steps: %s\n", pac_err_message());
    exit(1);
}

static const struct {
    const char *name;
    pac_precision value;
} precisions[] = {{"f32", PAC_PREC_F32}, {"tf32", PAC_PREC_TF32}, {"bf16", PAC_PREC_BF16}, {"f16", PAC_PREC_F16}};

typedef struct options {
    const char *models, *precisions, *dir;
    int64_t batch, source, target, rounds;
} options;

/* A model, its side network, one batch, and what a step of them needs. */
typedef struct bench {
    const pac_backend *be;
    pac_model_desc d;
    pac_model *model;
    pac_tuned *tuned;
    pac_optimizer *opt;
    pac_arena *rows, *keep, *work, *batch_arena;
    pac_batch batch;
    pac_acts acts; /* of the backbone, in `rows` */
    float *final_enc;
    float *fed[2]; /* device memory for the rows of two steps */
    float *pinned; /* the host's copy of them */
    int64_t fed_floats, ticket[2], step;
    float *loss; /* [T], on the device */
} bench;

/* ---- a batch of random tokens ---- */

static const int64_t *even_offsets(bench *x, int64_t n, int64_t length)
{
    void *p;
    must(pac_arena_get(x->batch_arena, (size_t)(n + 1) * sizeof(int64_t), &p));
    for (int64_t i = 0; i <= n; i++)
        ((int64_t *)p)[i] = i * length;
    return p;
}

static const int32_t *tokens(bench *x, int64_t n, uint64_t stream)
{
    void *p;
    must(pac_arena_get(x->batch_arena, (size_t)n * sizeof(int32_t), &p));
    for (int64_t i = 0; i < n; i++)
        ((int32_t *)p)[i] = (int32_t)(2 + pac_rng_u64(stream, PAC_STREAM_INIT, (uint64_t)i) % (uint64_t)(x->d.vocab - 2));
    return p;
}

static void make_batch(bench *x, const options *o)
{
    x->batch = (pac_batch){.B = o->batch, .A = o->batch};
    x->batch.soff = even_offsets(x, o->batch, o->source);
    x->batch.toff = even_offsets(x, o->batch, o->target);
    x->batch.sids = tokens(x, o->batch * o->source, 1);
    x->batch.tids = tokens(x, o->batch * o->target, 2);
    x->batch.labels = tokens(x, o->batch * o->target, 3);
}

/* ---- a step ---- */

static float *floats(pac_arena *arena, int64_t n)
{
    float *p;
    must(pac_arena_floats(arena, n, &p));
    return p;
}

static int64_t rows_of(const bench *x, int stack)
{
    return stack == PAC_ENC ? x->batch.soff[x->batch.B] : x->batch.toff[x->batch.B];
}

/* Every row that the side network reads: all of them, with layers: all. */
static void backbone(bench *x)
{
    int64_t layer = 0;
    pac_arena_reset(x->rows);
    for (int s = 0; s < 2; s++) {
        int64_t N = rows_of(x, s), D = x->d.block[s].D;
        float *a = floats(x->rows, N * D), *b;
        must(pac_model_embed(x->model, (pac_stack)s, &x->batch, a));
        x->acts.b[s][0] = a;
        for (int64_t i = 0; i < x->d.layers[s]; i++, layer++, a = b) {
            b = floats(x->rows, N * D);
            must(pac_model_block(x->model, layer, &x->batch, s == PAC_DEC ? x->final_enc : NULL, b, a, x->work));
            x->acts.b[s][i + 1] = b;
        }
        if (s == PAC_ENC) { /* the decoder's final norm is not read with merge: none */
            x->final_enc = floats(x->rows, N * D);
            must(pac_model_final(x->model, PAC_ENC, x->final_enc, a, N));
        }
    }
}

static void learn(bench *x)
{
    const int64_t T = rows_of(x, PAC_DEC), D = x->d.block[PAC_DEC].D, V = x->d.vocab;
    pac_pass p = {.batch = &x->batch, .keep = x->keep, .work = x->work};
    pac_side_state none = {0}, out, din;
    pac_side_saved *saved;
    float *h = NULL;
    pac_arena_reset(x->keep);
    must(pac_side_fwd(pac_tuned_side(x->tuned), &p, &x->acts, &none, &out, &h, true, &saved));
    float *logits = floats(x->keep, T * V), *dh = floats(x->keep, T * D);
    must(pac_model_logits(x->model, logits, h, T));
    x->be->xent(x->loss, logits, x->batch.labels, T, V, 1.0f / (float)T, true);
    must(pac_model_logits_bwd(x->model, dh, logits, T));
    must(pac_side_bwd(pac_tuned_side(x->tuned), &p, &x->acts, &none, dh, &din, saved));
    pac_optimizer_step(x->opt, x->be, pac_tuned_params(x->tuned), 1e-3f, 1);
}

static void hybrid_step(bench *x)
{
    backbone(x);
    learn(x);
}

static void cached_step(bench *x)
{
    learn(x);
}

/* ---- rows from the host ---- */

/* Lays all rows end to end: move: copies them to `pinned`; base: lets acts point there. Returns how many floats they are. */
static int64_t place_rows(bench *x, float *base, bool move)
{
    int64_t at = 0;
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i <= x->d.layers[s]; i++) {
            int64_t n = rows_of(x, s) * x->d.block[s].D;
            if (move)
                must(pac_download(x->be->space, x->pinned + at, x->acts.b[s][i], n));
            if (base != NULL)
                x->acts.b[s][i] = base + at;
            at += n;
        }
    return at;
}

static void start_feeding(bench *x)
{
    int k = (int)(x->step % 2);
    must(pac_device_upload_start(x->fed[k], x->pinned, (size_t)x->fed_floats * sizeof(float), &x->ticket[k]));
}

static void prepare_feeding(bench *x)
{
    void *p;
    x->fed_floats = place_rows(x, NULL, false);
    must(pac_device_pinned_alloc((size_t)x->fed_floats * sizeof(float), &p));
    x->pinned = p;
    place_rows(x, NULL, true);
    for (int k = 0; k < 2; k++) {
        must(pac_device_alloc((size_t)x->fed_floats * sizeof(float), &p));
        x->fed[k] = p;
    }
    x->step = 0;
    start_feeding(x);
}

/* The next step's rows are on their way while this one computes. */
static void fed_step(bench *x)
{
    int k = (int)(x->step % 2);
    x->step++;
    start_feeding(x);
    must(pac_device_follow(x->ticket[k]));
    place_rows(x, x->fed[k], false);
    learn(x);
}

/* ---- measuring ---- */

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median milliseconds of single steps, each between two waits; the loss of the last. On the emulator: products of one step. */
static double milliseconds(bench *x, void (*step)(bench *), int64_t rounds, float *loss, int64_t *products)
{
    double *t = malloc((size_t)rounds * sizeof *t);
    if (t == NULL)
        exit(1);
    for (int64_t i = -WARM_UP; i < rounds; i++) {
        must(pac_device_sync());
        int64_t waited = emu_waited != NULL ? emu_waited() : 0;
        int64_t before = emu_products != NULL ? emu_products() : 0;
        double start = pac_now();
        step(x);
        *products = emu_products != NULL ? emu_products() - before : 0;
        waited_inside += emu_waited != NULL && i >= 0 ? emu_waited() - waited : 0;
        must(pac_device_sync());
        if (i >= 0)
            t[i] = 1e3 * (pac_now() - start);
    }
    qsort(t, (size_t)rounds, sizeof *t, rising);
    double median = t[rounds / 2];
    free(t);
    must(pac_download(x->be->space, loss, x->loss, 1));
    return median;
}

static void open_model(bench *x, const options *o, const char *name)
{
    char dir[8192], config[8300];
    bool made = strchr(name, '/') == NULL;
    snprintf(dir, sizeof dir, "%s%s%s", made ? o->dir : "", made ? "/" : "", name);
    snprintf(config, sizeof config, "%s/model.safetensors", dir);
    if (made && access(config, F_OK) != 0)
        must(pac_model_init(name, dir, 1));
    must(pac_model_describe(dir, &x->d));
    must(pac_model_load(&x->d, x->be, 0, pac_depth(&x->d), PAC_LOAD_HEAD, &x->model));
}

static void open_side(bench *x)
{
    pac_tune_opts o = {.kind = PAC_TECH_PARALLEL, .head = PAC_HEAD_LM, .seed = 1, .gate = PAC_GATE_LEARNED};
    o.reduction = x->d.block[PAC_ENC].K % 8 == 0 ? 8 : 4;
    for (int64_t l = 0; l < pac_depth(&x->d); l++)
        o.has_layer[l] = true;
    must(pac_tuned_new(&x->d, &o, x->be, 0, pac_depth(&x->d), true, &x->tuned));
    must(pac_tuned_attach(x->tuned, x->model));
    must(pac_tuned_init(x->tuned, x->model, NULL));
    pac_optimizer_opts adamw = {.kind = PAC_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};
    must(pac_optimizer_new(&adamw, x->be->space, pac_tuned_params(x->tuned)->total, &x->opt));
}

static void open_bench(bench *x, const options *o, const char *model)
{
    void *p;
    *x = (bench){.be = pac_device_backend()};
    must(pac_arena_new_in(x->be->space, PAC_MEM_ACTIVATIONS, &x->rows));
    must(pac_arena_new_in(x->be->space, PAC_MEM_ACTIVATIONS, &x->keep));
    must(pac_arena_new_in(x->be->space, PAC_MEM_WORK, &x->work));
    must(pac_arena_new(PAC_MEM_DATA, &x->batch_arena));
    open_model(x, o, model);
    open_side(x);
    make_batch(x, o);
    must(pac_space_array(x->be->space, PAC_MEM_WORK, rows_of(x, PAC_DEC), sizeof(float), &p));
    x->loss = p;
}

static void close_bench(bench *x)
{
    must(pac_device_sync());
    for (int k = 0; k < 2; k++)
        pac_device_free(x->fed[k]);
    pac_device_pinned_free(x->pinned);
    pac_space_free(x->be->space, x->loss);
    pac_optimizer_free(&x->opt);
    pac_tuned_free(&x->tuned);
    pac_model_free(&x->model);
    pac_arena_free(&x->rows);
    pac_arena_free(&x->keep);
    pac_arena_free(&x->work);
    pac_arena_free(&x->batch_arena);
}

static void measure(const options *o, const char *model, size_t precision)
{
    bench x;
    float loss[3];
    int64_t products[3] = {0};
    pac_device_info info;
    if (pac_device_precision(precisions[precision].value) != precisions[precision].value)
        return;
    open_bench(&x, o, model);
    double hybrid = milliseconds(&x, hybrid_step, o->rounds, &loss[0], &products[0]),
           cached = milliseconds(&x, cached_step, o->rounds, &loss[1], &products[1]);
    prepare_feeding(&x);
    double fed = milliseconds(&x, fed_step, o->rounds, &loss[2], &products[2]);
    must(pac_device_query(&info));
    printf("{\"model\": \"%s\", \"precision\": \"%s\", \"by\": \"pac\", \"hybrid_ms\": %.4f, \"cached_ms\": %.4f, "
           "\"fed_ms\": %.4f, \"losses\": [%.6g, %.6g, %.6g], \"waits_inside\": %lld, \"products\": [%lld, %lld], \"device\": "
           "\"%s\", \"backend\": \"%s\"}\n",
           model, precisions[precision].name, hybrid, cached, fed, (double)loss[0], (double)loss[1], (double)loss[2],
           (long long)waited_inside, (long long)products[0], (long long)products[1], info.name, x.be->name);
    fflush(stdout);
    close_bench(&x);
}

/* ---- options ---- */

static void usage(const char *word)
{
    fprintf(stderr, "cuda_steps: %s is no option, or lacks its value; see the head of experiments/cuda-bench/cuda_steps.c\n",
            word);
    exit(2);
}

static void read_options(int argc, char **argv, options *o)
{
    const struct {
        const char *name;
        const char **text;
        int64_t *number;
    } known[] = {{"--models", &o->models, NULL}, {"--precisions", &o->precisions, NULL}, {"--dir", &o->dir, NULL},
                 {"--batch", NULL, &o->batch},   {"--source", NULL, &o->source},         {"--target", NULL, &o->target},
                 {"--rounds", NULL, &o->rounds}};
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && strcmp(argv[i], known[k].name) != 0)
            k++;
        if (k == sizeof known / sizeof *known || i + 1 == argc)
            usage(argv[i]);
        if (known[k].text != NULL)
            *known[k].text = argv[i + 1];
        else if ((*known[k].number = atoll(argv[i + 1])) < 1)
            usage(argv[i]);
    }
}

/* Is this word in the list of words with commas between? */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += n)
        if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    options o = {.models = "t5-base,t5-large",
                 .precisions = "f32,tf32,bf16",
                 .dir = "runs/cuda-bench",
                 .batch = 16,
                 .source = 128,
                 .target = 1,
                 .rounds = 30};
    char model[4096];
    read_options(argc, argv, &o);
    if (pac_device_count() == 0) {
        printf("cuda_steps: %s; nothing was measured\n", pac_device_absence());
        return 77;
    }
    must(pac_device_open(0));
    for (const char *at = o.models; *at != '\0'; at += strspn(at, ",")) {
        size_t n = strcspn(at, ",");
        snprintf(model, sizeof model, "%.*s", (int)n, at);
        at += n;
        for (size_t p = 0; p < sizeof precisions / sizeof *precisions; p++)
            if (listed(o.precisions, precisions[p].name))
                measure(&o, model, p);
    }
    pac_device_close();
    return 0;
}
