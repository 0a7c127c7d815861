/*
 * A fixture is one call of one op: its sizes, its scalars and its arrays with their roles. The cases (ops_cases.c,
 * pool_cases.c, attn_cases.c) say which arrays an op has and how to call it; the harness (test_ops.c) fills, runs, compares and
 * times them, knowing no op by name.
 */
#ifndef OPS_FIXTURE_H
#define OPS_FIXTURE_H

#include "pac/mem.h"
#include "pac/ops.h"

typedef enum role {
    IN,      /* must not change */
    OUT,     /* overwritten: filled with NaN before */
    ADDED,   /* accumulated into: filled with numbers before */
    CHANGED, /* read and overwritten */
    IDS,     /* int32 input */
    IDS_OUT, /* int32 output */
} role;

typedef struct array {
    const char *name;
    role role;
    int64_t rows, cols, ld;
    bool null;   /* pass NULL instead */
    bool host;   /* a number that the call's return value goes to: never on a device */
    float *init; /* contents before the call: what gradient checks perturb */
    float *x;    /* what the call gets */
} array;

enum { MAX_ARRAYS = 12, MAX_GRADS = 5, MAX_BATCH = 12 };

typedef struct fixture {
    int64_t N, D, V; /* sizes, as the case understands them */
    float f;         /* a scalar */
    int variant;
    bool bench; /* realistic sizes */
    pac_act act;
    pac_attn attn;
    int64_t toff[MAX_BATCH + 1], soff[MAX_BATCH + 1];
    uint64_t *row; /* [N], dropout's names of rows */
    array a[MAX_ARRAYS];
    int arrays;
    int alias_out, alias_in; /* the output is given the memory of the input; both 0: no alias */
    double flops;            /* for the benchmark; 0: bound by memory */
} fixture;

typedef struct op_case {
    const char *name;
    void (*setup)(fixture *f, int64_t n, int64_t d, int variant);
    void (*call)(const pac_backend *be, const fixture *f);
    int variants;
    double tolerance; /* of |x - ref| / (|ref| + rms(ref)) */
    /* Backward ops: the loss whose gradient the op computes, from the `init` contents, and which array is the gradient of
     * which. */
    double (*loss)(const fixture *f);
    struct {
        int grad, of;
    } grads[MAX_GRADS];
    int ngrads;
} op_case;

/* Tolerances, relative as above. EXACT: the same float operations in the same order. ROUND: a few roundings per element. SUM:
 * sums of some hundred f32 products. EXP: exponentials of such sums, which reach 50 in the unscaled scores of T5. */
#define EXACT 0.0
#define ROUND 1e-6
#define SUM   4e-6
#define EXP   4e-5

extern const op_case row_cases[], pool_cases[], attn_cases[]; /* end with name == NULL */
extern const pac_backend *ref;

extern pac_arena *arena; /* everything of a fixture */

/* Products of the benchmark only. Depth: the width of a side network, of a backbone, of its feed-forward network, or rows; and
 * which factor is transposed: b, as weights are, or a, as in the gradient of weights. */
enum { GEMM_SIDE = 12, GEMM_BACK = 24, GEMM_INNER = 36, GEMM_ROWS = 48, GEMM_TURNED = 1, GEMM_WEIGHT = 2 };

/* A fixture of a case; `bench`: all sequences of full length. */
fixture make(const op_case *c, int64_t n, int64_t d, int variant, bool bench);
/* New memory for every array, with guards, holding the initial contents. */
void load(fixture *f);
/* Call the op, with the arrays in the backend's memory; those of a device are taken there and back. */
void call_on(const pac_backend *be, const op_case *c, fixture *f);
void bench_ops(const char *only);

/* Append an array [rows, cols] with row stride ld; contents are filled according to its role. Returns its index. */
int add_strided(fixture *f, role r, const char *name, int64_t rows, int64_t cols, int64_t ld);
int add(fixture *f, role r, const char *name, int64_t rows, int64_t cols);
/* An array of ids in [low, high). */
int add_ids(fixture *f, const char *name, int64_t n, int32_t low, int32_t high);
/* Let output `out` live in the memory of input `in`. */
void alias(fixture *f, int out, int in);
/* Zeroed memory that lives until the harness is done with the fixture. */
float *temporary(int64_t n);
double dot(const float *a, const float *b, int64_t n);

/* Values known without the reference; those of pool_cases; the backend "count". */
void check_values(void);
void check_pool_values(const pac_backend *be);
void check_counts(void);
bool near(double a, double b, double tolerance);
/* Count and report a failure unless `ok`. */
bool expect(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What the call gets for array i; its contents before the call. */
#define X(i)    (f->a[i].null ? NULL : f->a[i].x)
#define INIT(i) (f->a[i].init)

#endif
