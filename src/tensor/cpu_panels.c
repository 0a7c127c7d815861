/*
 * A matrix product for narrow matrices, such as a side network's: OpenBLAS copies both operands into an order of its own, which
 * costs as much as the product where one side is 96 wide. Here only B is copied, into panels as wide as a few vectors; A is
 * read where it lies, one number at a time broadcast to a vector, and a tile of C stays in registers. Only where it was
 * measured to be faster: AVX2 and AVX-512.
 */
#include "cpu_vec.h"

#ifdef __AVX2__

/* Sums that fit the registers: 32 with AVX-512, else 16. */
enum { ROWS = LANES == 16 ? 8 : 4, DOT_ROWS = 4, DOT_COLUMNS = LANES == 16 ? 6 : 3 };

/* VECTORS x LANES columns make a panel. A panel of DEPTH rows and ROW_BLOCK rows of A stay in the second-level cache. */
enum { VECTORS = 3, PANEL = VECTORS * LANES, DEPTH = 768, SHALLOW = 256, FEW_DEPTH = 64, ROW_BLOCK = 256 };

/* Where it is faster than OpenBLAS: fewer rows of C than FEW, or more but a B that stays in the second-level cache; MANY: of a
 * long sum. */
enum { FEW = 32, MANY = 512 };

typedef struct matrix {
    const float *x;
    int64_t row, column; /* strides of element (i, k) */
} matrix;

typedef float quarter __attribute__((vector_size(16)));

/* The lanes of a vector added up, halves first. */
ALWAYS_INLINE float sum_lanes(vec v)
{
    quarter q[LANES / 4];
    memcpy(q, &v, sizeof v);
    for (int n = LANES / 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            q[i] += q[i + n];
    return (q[0][0] + q[0][2]) + (q[0][1] + q[0][3]);
}

/* C[rows, vectors x LANES] = alpha A[rows, K] B, or += ; rows, vectors and the rows of B to prefetch are constants of the
 * caller. */
ALWAYS_INLINE void tile(const int rows, const int vectors, const int ahead, float *c, int64_t ldc, matrix a, const float *b,
                        int64_t ldb, int64_t K, float alpha, bool add)
{
    vec sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            sum[i][j] = (vec){0};
    for (int64_t k = 0; k < K; k++, b += ldb, a.x += a.column) {
        vec line[VECTORS];
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++) {
            if (ahead > 0)
                __builtin_prefetch(b + ahead * ldb + j * LANES, 0, 2);
            line[j] = load(b + j * LANES);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
            for (int j = 0; j < vectors; j++)
                sum[i][j] += a.x[i * a.row] * line[j];
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++, c += ldc)
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++)
            store(c + j * LANES, add ? load(c + j * LANES) + alpha * sum[i][j] : alpha * sum[i][j]);
}

typedef void strip_fn(float *c, int64_t ldc, matrix a, int64_t rows, const float *b, int64_t ldb, int64_t K, float alpha,
                      bool add);

#define STRIP(name, vectors, ahead)                                                                                            \
    static void name(float *c, int64_t ldc, matrix a, int64_t rows, const float *b, int64_t ldb, int64_t K, float alpha,       \
                     bool add)                                                                                                 \
    {                                                                                                                          \
        for (; rows >= ROWS; rows -= ROWS, c += ROWS * ldc, a.x += ROWS * a.row)                                               \
            tile(ROWS, vectors, ahead, c, ldc, a, b, ldb, K, alpha, add);                                                      \
        for (; rows >= 2; rows -= 2, c += 2 * ldc, a.x += 2 * a.row)                                                           \
            tile(2, vectors, ahead, c, ldc, a, b, ldb, K, alpha, add);                                                         \
        if (rows > 0)                                                                                                          \
            tile(1, vectors, ahead, c, ldc, a, b, ldb, K, alpha, add);                                                         \
    }

/* B in panels, which a cache holds, and B where it lies in memory. */
STRIP(panel_1, 1, 0)
STRIP(panel_2, 2, 0)
STRIP(panel_3, 3, 0)
STRIP(lying_1, 1, 40)
STRIP(lying_2, 2, 40)
STRIP(lying_3, 3, 40)
static strip_fn *const of_panel[] = {panel_1, panel_2, panel_3}, *const where_it_lies[] = {lying_1, lying_2, lying_3};

/* A strip of C as wide as a panel, or the last few columns of C, which pass through a place of whole vectors. */
static void strip(float *c, int64_t ldc, matrix a, int64_t rows, const float *panel, int64_t columns, int64_t K, float alpha,
                  bool add)
{
    int64_t whole = columns / LANES, rest = columns % LANES;
    if (rest == 0) {
        of_panel[whole - 1](c, ldc, a, rows, panel, PANEL, K, alpha, add);
        return;
    }
    float place[ROWS * PANEL];
    for (int64_t i = 0; i < rows; i += ROWS) {
        int64_t some = rows - i < ROWS ? rows - i : ROWS;
        of_panel[whole](place, PANEL, (matrix){a.x + i * a.row, a.row, a.column}, some, panel, PANEL, K, alpha, false);
        for (int64_t r = 0; r < some; r++)
            for (int64_t j = 0; j < columns; j++)
                c[(i + r) * ldc + j] = (add ? c[(i + r) * ldc + j] : 0) + place[r * PANEL + j];
    }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* B[K, n] to panels [n / PANEL, K, PANEL] row by row, as memory is read fastest; zeros behind the last column. */
static void copy_rows(float *panels, matrix b, int64_t K, int64_t n)
{
    for (int64_t k = 0; k < K; k++)
        for (int64_t j = 0; j < n; j += PANEL) {
            int64_t columns = least(PANEL, n - j);
            float *to = panels + j * K + k * PANEL;
            memcpy(to, b.x + k * b.row + j, (size_t)columns * sizeof *to);
            memset(to + columns, 0, (size_t)(PANEL - columns) * sizeof *to);
        }
}

/* The same of a transposed B, a few rows of a panel at a time, which stay close while they are written. */
static void copy_columns(float *panels, matrix b, int64_t K, int64_t n)
{
    for (int64_t j = 0; j < n; j += PANEL) {
        int64_t columns = least(PANEL, n - j);
        for (int64_t k0 = 0; k0 < K; k0 += LANES) {
            int64_t last = least(k0 + LANES, K);
            float *to = panels + j * K;
            for (int64_t c = 0; c < columns; c++)
                for (int64_t k = k0; k < last; k++)
                    to[k * PANEL + c] = b.x[k * b.row + (j + c) * b.column];
            for (int64_t k = k0; k < last && columns < PANEL; k++)
                memset(to + k * PANEL + columns, 0, (size_t)(PANEL - columns) * sizeof *to);
        }
    }
}

static matrix operand(const float *x, int64_t ld, bool transposed)
{
    return transposed ? (matrix){x, 1, ld} : (matrix){x, ld, 1};
}

/* C (+)= alpha A B over one block of K: all panels of B are copied, then go past block after block of A's rows. */
static void block_of_depth(float *c, int64_t ldc, matrix a, matrix b, int64_t m, int64_t n, int64_t K, float alpha, bool add,
                           float *panels)
{
    (b.column == 1 ? copy_rows : copy_columns)(panels, b, K, n);
    for (int64_t i = 0; i < m; i += ROW_BLOCK)
        for (int64_t j = 0; j < n; j += PANEL)
            strip(c + i * ldc + j, ldc, (matrix){a.x + i * a.row, a.row, a.column}, least(ROW_BLOCK, m - i), panels + j * K,
                  least(PANEL, n - j), K, alpha, add);
}

/* ---- few rows: B is read once, where it lies ---- */

/* C[rows, columns] = alpha A B^T, or +=, with the sums along K in the lanes of vectors; rows and columns are constants of the
 * caller. */
ALWAYS_INLINE void dots(const int rows, const int columns, float *c, int64_t ldc, const float *a, int64_t lda, const float *b,
                        int64_t ldb, int64_t K, float alpha, bool add)
{
    vec sum[DOT_ROWS][DOT_COLUMNS];
    int64_t k = 0;
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++)
            sum[i][j] = (vec){0};
    for (; k + LANES <= K; k += LANES) {
        vec line[DOT_COLUMNS];
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            __builtin_prefetch(b + (columns + j) * ldb + k, 0, 2); /* what the next sums read */
            line[j] = load(b + j * ldb + k);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            vec x = load(a + i * lda + k);
#pragma GCC unroll 6
            for (int j = 0; j < columns; j++)
                sum[i][j] += x * line[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++) {
            float total = sum_lanes(sum[i][j]);
            for (int64_t rest = k; rest < K; rest++)
                total += a[i * lda + rest] * b[j * ldb + rest];
            c[i * ldc + j] = (add ? c[i * ldc + j] : 0) + alpha * total;
        }
}

#define DOTS_DOWN(name, columns)                                                                                               \
    static void name(float *c, int64_t ldc, const float *a, int64_t lda, int64_t rows, const float *b, int64_t ldb, int64_t K, \
                     float alpha, bool add)                                                                                    \
    {                                                                                                                          \
        for (; rows >= DOT_ROWS; rows -= DOT_ROWS, c += DOT_ROWS * ldc, a += DOT_ROWS * lda)                                   \
            dots(DOT_ROWS, columns, c, ldc, a, lda, b, ldb, K, alpha, add);                                                    \
        for (; rows >= 2; rows -= 2, c += 2 * ldc, a += 2 * lda)                                                               \
            dots(2, columns, c, ldc, a, lda, b, ldb, K, alpha, add);                                                           \
        if (rows > 0)                                                                                                          \
            dots(1, columns, c, ldc, a, lda, b, ldb, K, alpha, add);                                                           \
    }

DOTS_DOWN(dots_wide, DOT_COLUMNS)
DOTS_DOWN(dots_single, 1)

static void few_rows_transposed(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t m,
                                int64_t n, int64_t k, float alpha, bool add)
{
    int64_t j = 0;
    for (; j + DOT_COLUMNS <= n; j += DOT_COLUMNS)
        dots_wide(c + j, ldc, a, lda, m, b + j * ldb, ldb, k, alpha, add);
    for (; j < n; j++)
        dots_single(c + j, ldc, a, lda, m, b + j * ldb, ldb, k, alpha, add);
}

/* Blocks of B's rows stay in a cache until all rows of A have gone past them; n is a multiple of LANES. */
static void few_rows_plain(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, int64_t m,
                           int64_t n, int64_t k, float alpha, bool add)
{
    for (int64_t at = 0; at < k; at += FEW_DEPTH)
        for (int64_t j = 0; j < n; j += PANEL)
            where_it_lies[least(VECTORS, (n - j) / LANES) - 1](c + j, ldc, (matrix){a + at, lda, 1}, m, b + at * ldb + j, ldb,
                                                               least(FEW_DEPTH, k - at), alpha, add || at > 0);
}

static bool few_rows(float *c, int64_t ldc, const float *a, int64_t lda, const float *b, int64_t ldb, bool tb, int64_t m,
                     int64_t n, int64_t k, float alpha, bool add)
{
    if (tb ? m > FEW / 2 : m == 1 || n % LANES != 0)
        return false;
    (tb ? few_rows_transposed : few_rows_plain)(c, ldc, a, lda, b, ldb, m, n, k, alpha, add);
    return true;
}

/* ---- which way ---- */

/* Rows enough to pay for copying B, and a copy that stays in the second-level cache; beyond, OpenBLAS is as fast or faster. */
static bool pays(int64_t m, int64_t n, int64_t width, int64_t depth, bool ta)
{
    return m >= FEW && n >= FEW && (!ta || m <= MANY) && width * depth <= PAC_PANEL_FLOATS;
}

bool CPU(panels)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                 int64_t n, int64_t k, float alpha, float beta)
{
    const int64_t most = ta ? SHALLOW : DEPTH; /* a long sum over few rows of C: B is the large one */
    int64_t blocks = (k + most - 1) / most, depth = blocks > 0 ? (k + blocks - 1) / blocks : 0;
    int64_t width = (n + PANEL - 1) / PANEL * PANEL;
    if (k == 0 || (beta != 0 && beta != 1))
        return false;
    if (!ta && m < FEW)
        return few_rows(c, ldc, a, lda, b, ldb, tb, m, n, k, alpha, beta != 0);
    if (!pays(m, n, width, depth, ta))
        return false;
    float *panels = pac_panels();
    if (panels == NULL)
        return false;
    matrix left = operand(a, lda, ta), right = operand(b, ldb, tb);
    for (int64_t at = 0; at < k; at += depth)
        block_of_depth(c, ldc, (matrix){left.x + at * left.column, left.row, left.column},
                       (matrix){right.x + at * right.row, right.row, right.column}, m, n, least(depth, k - at), alpha,
                       beta != 0 || at > 0, panels);
    return true;
}

#else

bool CPU(panels)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                 int64_t n, int64_t k, float alpha, float beta)
{
    (void)c, (void)ldc, (void)a, (void)lda, (void)ta, (void)b, (void)ldb, (void)tb, (void)m, (void)n, (void)k, (void)alpha,
        (void)beta;
    return false;
}

#endif
