/*
 * One program that tests and benchmarks every op on every backend. With --device it tests the accelerator against `ref` alone,
 * and ends with 77 (skipped) where there is none.
 *
 * Test: every case runs on `ref` and on the other backends, odd sizes first, with outputs that start as NaN, guard zones of NaN
 * around every array and in the gaps between rows, unaligned pointers; inputs must come back unchanged and a repeated call must
 * give the same bits. `ref` itself is checked by central differences of its forward ops. Benchmark (--bench [op]): rates and
 * the ratio to what the machine does in the same run, sgemm for products and memcpy of as many bytes for the others.
 */
#include "ops_fixture.h"

#include "pac/device.h"
#include "pac/pool.h"
#include "pac/rng.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 37 }; /* floats; odd, so that arrays are not aligned */

static const uint32_t guard_bits = 0x7fc0dead; /* a NaN: reading it poisons results */

const pac_backend *ref;
pac_arena *arena;
static uint64_t draws;
static int checks, failures;

bool expect(bool ok, const char *fmt, ...)
{
    checks++;
    if (ok)
        return true;
    va_list args;
    va_start(args, fmt);
    fputs("FAIL ", stdout);
    vprintf(fmt, args);
    putchar('\n');
    va_end(args);
    if (++failures >= 50)
        exit(1);
    return false;
}

float *temporary(int64_t n)
{
    float *p = NULL;
    if (pac_arena_floats(arena, n, &p) != PAC_OK)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        p[i] = 0;
    return p;
}

double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* ---- making fixtures ---- */

static float guard(void)
{
    float f;
    memcpy(&f, &guard_bits, sizeof f);
    return f;
}

/* Normal, at least 0.1 away from zero, where relu has its kink and norms of one element turn over. */
static float draw(void)
{
    float x = pac_rng_normal(1, PAC_STREAM_TEST, draws++);
    return x < 0 ? x - 0.1f : x + 0.1f;
}

int add_strided(fixture *f, role r, const char *name, int64_t rows, int64_t cols, int64_t ld)
{
    if (f->arrays >= MAX_ARRAYS)
        abort();
    array *a = &f->a[f->arrays];
    *a = (array){.name = name, .role = r, .rows = rows, .cols = cols, .ld = ld, .init = temporary(rows * ld)};
    for (int64_t i = 0; i < rows * ld; i++)
        a->init[i] = i % ld >= cols || r == OUT || r == IDS_OUT ? guard() : draw();
    return f->arrays++;
}

int add(fixture *f, role r, const char *name, int64_t rows, int64_t cols)
{
    return add_strided(f, r, name, rows, cols, cols);
}

int add_ids(fixture *f, const char *name, int64_t n, int32_t low, int32_t high)
{
    int i = add(f, IDS, name, 1, n);
    int32_t *ids = (int32_t *)f->a[i].init;
    for (int64_t j = 0; j < n; j++)
        ids[j] = low + (int32_t)(pac_rng_u64(2, PAC_STREAM_TEST, draws++) % (uint64_t)(high - low));
    return i;
}

void alias(fixture *f, int out, int in)
{
    f->alias_out = out;
    f->alias_in = in;
}

static bool aliased(const fixture *f)
{
    return f->alias_in != f->alias_out;
}

fixture make(const op_case *c, int64_t n, int64_t d, int variant, bool bench)
{
    fixture f = {.N = n, .D = d, .variant = variant, .bench = bench};
    draws = 0;
    c->setup(&f, n, d, variant);
    return f;
}

/* ---- running ---- */

static int64_t floats_of(const array *a)
{
    return a->rows * a->ld;
}

void load(fixture *f)
{
    for (int i = 0; i < f->arrays; i++) {
        array *a = &f->a[i];
        int64_t n = floats_of(a);
        float *block = temporary(n + 2 * GUARD);
        for (int64_t j = 0; j < n + 2 * GUARD; j++)
            block[j] = guard();
        a->x = block + GUARD;
        memcpy(a->x, a->init, (size_t)n * sizeof *a->x);
    }
    if (aliased(f))
        f->a[f->alias_out].x = f->a[f->alias_in].x;
}

static bool same_bits(const float *a, const float *b, int64_t n)
{
    return n == 0 || memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

static bool is_guard(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(x + i, &guard_bits, sizeof *x) != 0)
            return false;
    return true;
}

static void check_frame(const fixture *f, const char *where)
{
    for (int i = 0; i < f->arrays; i++) {
        const array *a = &f->a[i];
        int64_t n = floats_of(a);
        expect(is_guard(a->x - GUARD, GUARD) && is_guard(a->x + n, GUARD), "%s: wrote outside %s", where, a->name);
        for (int64_t r = 0; r < a->rows && a->ld > a->cols; r++)
            expect(is_guard(a->x + r * a->ld + a->cols, a->ld - a->cols), "%s: wrote between rows of %s", where, a->name);
        bool input = a->role == IN || a->role == IDS;
        if ((input || a->null) && !(aliased(f) && (i == f->alias_in || i == f->alias_out)))
            expect(same_bits(a->x, a->init, n), "%s: changed %s", where, a->name);
    }
}

static double difference(const array *want, const array *got, const char *where)
{
    double squares = 0, worst = 0;
    int64_t n = want->rows * want->cols;
    if (want->role == IDS_OUT)
        return same_bits(want->x, got->x, n) ? 0 : 1;
    for (int64_t i = 0; i < want->rows; i++)
        squares += dot(want->x + i * want->ld, want->x + i * want->ld, want->cols);
    double rms = squares > 0 ? sqrt(squares / (double)n) : 1; /* all zero: the error is absolute */
    for (int64_t i = 0; i < want->rows; i++)
        for (int64_t j = 0; j < want->cols; j++) {
            double x = want->x[i * want->ld + j], y = got->x[i * want->ld + j];
            if (!isfinite(y)) {
                expect(false, "%s: %s[%lld,%lld] is %g, expected %g", where, want->name, (long long)i, (long long)j, y, x);
                return INFINITY;
            }
            double error = x == y ? 0 : fabs(x - y) / (fabs(x) + rms);
            worst = error > worst ? error : worst;
        }
    return worst;
}

static void device_ok(pac_err err)
{
    if (err == PAC_OK)
        return;
    printf("FAIL %s\n", pac_err_message());
    exit(1);
}

/* Guards travel too, so that what the device wrote beside an array is seen here. */
static void call_on_device(const pac_backend *be, const op_case *c, fixture *f)
{
    float *host[MAX_ARRAYS], *there[MAX_ARRAYS] = {NULL};
    for (int i = 0; i < f->arrays; i++) {
        array *a = &f->a[i];
        host[i] = a->x;
        if (a->role == IDS || a->host || (aliased(f) && i == f->alias_out))
            continue;
        size_t bytes = (size_t)(floats_of(a) + 2 * GUARD) * sizeof(float);
        device_ok(pac_device_alloc(bytes, (void **)&there[i]));
        device_ok(pac_device_upload(there[i], a->x - GUARD, bytes));
        a->x = there[i] + GUARD;
    }
    if (aliased(f))
        f->a[f->alias_out].x = f->a[f->alias_in].x;
    c->call(be, f);
    device_ok(pac_device_sync());
    for (int i = 0; i < f->arrays; i++) {
        f->a[i].x = host[i];
        if (there[i] != NULL)
            device_ok(
                pac_device_download(host[i] - GUARD, there[i], (size_t)(floats_of(&f->a[i]) + 2 * GUARD) * sizeof(float)));
        pac_device_free(there[i]);
    }
}

void call_on(const pac_backend *be, const op_case *c, fixture *f)
{
    if (be == pac_device_backend())
        call_on_device(be, c, f);
    else
        c->call(be, f);
}

static void run(const pac_backend *be, const op_case *c, fixture *f, const char *where)
{
    load(f);
    call_on(be, c, f);
    check_frame(f, where);
}

static bool is_output(const array *a)
{
    return a->role != IN && a->role != IDS && !a->null;
}

/* Returns the worst difference between the backend and the reference. */
static double compare(const pac_backend *be, const op_case *c, const fixture *f, const fixture *want)
{
    char where[128];
    double worst = 0;
    snprintf(where, sizeof where, "%s on %s, n %lld, d %lld, variant %d", c->name, be->name, (long long)f->N, (long long)f->D,
             f->variant);
    fixture got = *f, again = *f;
    run(be, c, &got, where);
    run(be, c, &again, where);
    for (int i = 0; i < f->arrays; i++) {
        if (!is_output(&f->a[i]))
            continue;
        double error = difference(&want->a[i], &got.a[i], where);
        expect(error <= c->tolerance, "%s: %s differs by %.2g", where, f->a[i].name, error);
        expect(same_bits(got.a[i].x, again.a[i].x, floats_of(&f->a[i])), "%s: %s changes from run to run", where, f->a[i].name);
        worst = error > worst ? error : worst;
    }
    return worst;
}

/* ---- the reference against central differences ---- */

static double loss_at(const op_case *c, const fixture *f, float *x, float value)
{
    size_t mark = pac_arena_mark(arena);
    float old = *x;
    *x = value;
    double loss = c->loss(f);
    *x = old;
    pac_arena_release(arena, mark);
    return loss;
}

/* Fourth order: (8 (L(x+h) - L(x-h)) - (L(x+2h) - L(x-2h))) / 12h. */
static double numeric_gradient(const op_case *c, const fixture *f, float *x)
{
    const float h = 0x1p-7f, at = *x;
    double near = loss_at(c, f, x, at + h) - loss_at(c, f, x, at - h);
    double far = loss_at(c, f, x, at + 2 * h) - loss_at(c, f, x, at - 2 * h);
    return (8 * near - far) / (12.0 * h);
}

/* Loss values are sums of floats: their rounding, divided by h, is what limits the agreement. */
static const double gradient_tolerance = 5e-4;

static double check_gradient(const op_case *c, fixture *f, int grad, int of)
{
    const array *g = &f->a[grad], *x = &f->a[of];
    double worst = 0, norm = 1e-2;
    for (int64_t i = 0; i < floats_of(g); i++)
        norm = !isnan(g->x[i]) && fabsf(g->x[i]) > norm ? fabs(g->x[i]) : norm;
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t j = 0; j < x->cols; j++) {
            double analytic = g->x[i * g->ld + j] - (g->role == ADDED ? g->init[i * g->ld + j] : 0.0f);
            double error = fabs(analytic - numeric_gradient(c, f, &f->a[of].init[i * x->ld + j])) / norm;
            worst = error > worst ? error : worst;
        }
    expect(worst < gradient_tolerance, "%s on ref, n %lld, d %lld, variant %d: %s is off by %.2g from central differences",
           c->name, (long long)f->N, (long long)f->D, f->variant, g->name, worst);
    return worst;
}

static double check_gradients(const op_case *c, fixture *done)
{
    double worst = 0;
    for (int i = 0; i < c->ngrads; i++) {
        if (!is_output(&done->a[c->grads[i].grad]))
            continue;
        double error = check_gradient(c, done, c->grads[i].grad, c->grads[i].of);
        worst = error > worst ? error : worst;
    }
    return worst;
}

/* ---- the test ---- */

typedef struct sizes {
    int64_t n[10], d[10];
    int count_n, count_d;
    int64_t grad_n, grad_d; /* central differences up to these */
} sizes;

static const sizes row_sizes = {.n = {0, 1, 3, 7, 17, 33, 65, 127},
                                .count_n = 8,
                                .d = {1, 3, 7, 17, 33, 65, 127, 300, 1031},
                                .count_d = 9,
                                .grad_n = 7,
                                .grad_d = 17};
static const sizes attn_sizes = {
    .n = {0, 1, 3, 7, 17, 33, 65, 130}, .count_n = 8, .d = {1, 3, 7, 8, 16, 17, 64}, .count_d = 7, .grad_n = 7, .grad_d = 3};

static int64_t most_elements = 40000;
static const pac_backend *const *tested; /* ref first, NULL after the last */
static bool gradients = true;            /* check those of ref too */

static void test_case(const op_case *c, const sizes *s)
{
    double worst[8] = {0}, gradient = 0;
    const pac_backend *const *all = tested;
    for (int v = 0; v < c->variants; v++)
        for (int i = 0; i < s->count_n; i++)
            for (int j = 0; j < s->count_d; j++) {
                int64_t n = s->n[i], d = s->d[j];
                if (n * d > most_elements)
                    continue;
                fixture f = make(c, n, d, v, false), want = f;
                run(ref, c, &want, c->name);
                for (int b = 1; all[b] != NULL; b++)
                    worst[b] = fmax(worst[b], compare(all[b], c, &f, &want));
                if (gradients && c->loss != NULL && n <= s->grad_n && d <= s->grad_d && !aliased(&f))
                    gradient = fmax(gradient, check_gradients(c, &want));
                pac_arena_reset(arena);
            }
    printf("%-14s tolerance %7.1e ", c->name, c->tolerance);
    for (int b = 1; all[b] != NULL; b++)
        printf(" %s %7.1e", all[b]->name, worst[b]);
    if (gradients && c->loss != NULL)
        printf("  ref gradient %7.1e", gradient);
    putchar('\n');
}

static void test_cases(const op_case *c, const sizes *s, const char *only)
{
    for (; c->name != NULL; c++)
        if (only == NULL || strstr(c->name, only) != NULL)
            test_case(c, s);
}

/* The accelerator alone. Returns false, with the reason printed, where there is none. */
static bool take_device(void)
{
    static const pac_backend *pair[3];
    if (pac_device_count() == 0) {
        printf("SKIP %s\n", pac_device_absence());
        return false;
    }
    device_ok(pac_device_open(0));
    pac_device_info info;
    device_ok(pac_device_query(&info));
    printf("%s: %s\n", pac_device_backend()->name, info.name);
    pair[0] = ref;
    pair[1] = pac_device_backend();
    tested = pair;
    gradients = false;
    return true;
}

static void test_all(const char *only)
{
    test_cases(row_cases, &row_sizes, only);
    test_cases(pool_cases, &row_sizes, only);
    test_cases(attn_cases, &attn_sizes, only);
}

/* True, and gone from the arguments, when the first of them is `flag`. */
static bool take_flag(int *argc, char ***argv, const char *flag)
{
    if (*argc < 2 || strcmp((*argv)[1], flag) != 0)
        return false;
    --*argc;
    ++*argv;
    return true;
}

int main(int argc, char **argv)
{
    bool bench = take_flag(&argc, &argv, "--bench"), device = take_flag(&argc, &argv, "--device");
    if (take_flag(&argc, &argv, "--small")) /* for the emulator */
        most_elements = 5200;
    if (take_flag(&argc, &argv, "--threads")) { /* three, and every op is cut into parts, however small */
        pac_pool_set_threads(3);
        pac_pool_ignore_grain();
    }
    const char *only = argc > 1 ? argv[1] : NULL;
    tested = pac_backend_all();
    ref = tested[0];
    if (device && !take_device())
        return 77;
    if (pac_arena_new(PAC_MEM_OTHER, &arena) != PAC_OK)
        return 1;
    if (!bench && !device && only == NULL)
        check_values();
    if (bench)
        bench_ops(only);
    else
        test_all(only);
    pac_arena_free(&arena);
    pac_backend_release();
    pac_pool_set_threads(1);
    pac_device_close();
    expect(pac_mem_blocks() == 0, "%lld blocks are still allocated", (long long)pac_mem_blocks());
    if (!bench)
        printf("%d checks, %d failed\n", checks, failures);
    return failures > 0;
}
