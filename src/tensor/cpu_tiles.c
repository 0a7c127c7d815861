/*
 * f32 matrix products on AMX's bf16 tiles: each number is the sum of three bf16 numbers, x = x1 + x2 + x3, exactly (3 x 8 bits
 * of mantissa hold f32's 24), and of the nine products of parts the six that reach f32's precision are added up in f32:
 *     a b ~ a1 b1 + a1 b2 + a2 b1 + a2 b2 + a1 b3 + a3 b1,    left out: at most 2^-22 |a b|, of either sign.
 * Six tile products in bf16 take less than half the time of one in f32. (The method: Henry, Tang, Heinecke, "Leveraging the
 * bfloat16 artificial intelligence datatype for higher-precision computations", ARITH 2019.)
 *
 * Blocks of B are cut into parts once and stay in the second-level cache while groups of strips of A go past them; the next
 * group, and where k has a stride in A the next block of B, is cut in the meantime (cpu_cut.h). A sum over k runs in the same
 * order for every element of C, wherever it stands. Infinite numbers become NaN; parts below 1e-38 become 0.
 */
#include "cpu.h"

#ifdef __AMX_BF16__

#include "cpu_cut.h"

enum {
    DEPTH = 768,                              /* of a block, at most */
    ACROSS = 128,                             /* the same where k has a stride in A, and */
    MOST_WHOLE = 12 * STRIP,                  /* rows of C whose sums are kept until k is at its end, where it has */
    GROUP = 3,                                /* strips of such an A that are cut at once, since they lie side by side */
    ROOM = 4 * PAC_PANEL_FLOATS,              /* bytes of all buffers, in the second-level cache */
    SUMS = STRIP * STRIP * (int)sizeof(float) /* bytes of a strip by a strip of C */
};

/* Below so many rows B is better read where it lies; below so many columns, or k, cutting costs more than the product. */
enum { FEW = 32, NARROW = 16, SHORT = 32 };

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- multiplying ---- */

#define LOAD_A(part)                                                                                                           \
    _tile_loadd(4, a + (part)*TILE_BYTES, 64);                                                                                 \
    _tile_loadd(5, a + side + (part)*TILE_BYTES, 64);
#define LOAD_B(part)                                                                                                           \
    _tile_loadd(6, b + (part)*TILE_BYTES, 64);                                                                                 \
    _tile_loadd(7, b + side + (part)*TILE_BYTES, 64);
#define MULTIPLY                                                                                                               \
    _tile_dpbf16ps(0, 4, 6);                                                                                                   \
    _tile_dpbf16ps(1, 4, 7);                                                                                                   \
    _tile_dpbf16ps(2, 5, 6);                                                                                                   \
    _tile_dpbf16ps(3, 5, 7);

/*
 * sums[32, 32] = a strip of A times a strip of B, each two sides of `chunks` times three tiles, the small products first, or
 * +=. After every four products there is room for some steps of cutting; `along` is a constant of the caller.
 */
ALWAYS_INLINE void multiply_strips(float *sums, int64_t width, bool add, const char *a, const char *b, int64_t chunks,
                                   cutter *next, int64_t steps, const bool along)
{
    const int64_t side = chunks * CHUNK_BYTES;
#define CUT                                                                                                                    \
    for (int64_t step = 0; step < steps; step++)                                                                               \
        cut_step(next, along);
    const size_t row = (size_t)width * sizeof *sums;
    float *below = sums + SIDE * width;
    forget_memory();
    if (add) {
        _tile_loadd(0, sums, row);
        _tile_loadd(1, sums + SIDE, row);
        _tile_loadd(2, below, row);
        _tile_loadd(3, below + SIDE, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < chunks; i++, a += CHUNK_BYTES, b += CHUNK_BYTES) {
        LOAD_B(2)
        LOAD_A(0)
        MULTIPLY CUT LOAD_B(1) MULTIPLY CUT LOAD_A(1) MULTIPLY CUT LOAD_B(0) MULTIPLY CUT LOAD_A(2) MULTIPLY CUT LOAD_A(0)
            MULTIPLY CUT
    }
#undef CUT
    _tile_stored(0, sums, row);
    _tile_stored(1, sums + SIDE, row);
    _tile_stored(2, below, row);
    _tile_stored(3, below + SIDE, row);
    forget_memory();
}

static void multiply_along(float *sums, int64_t width, bool add, const char *a, const char *b, int64_t chunks, cutter *next,
                           int64_t steps)
{
    multiply_strips(sums, width, add, a, b, chunks, next, steps, true);
}

static void multiply_across(float *sums, int64_t width, bool add, const char *a, const char *b, int64_t chunks, cutter *next,
                            int64_t steps)
{
    multiply_strips(sums, width, add, a, b, chunks, next, steps, false);
}

/* c[rows, columns] = alpha sums, or += */
static void put_sums(float *c, int64_t ldc, const float *sums, int64_t width, int64_t rows, int64_t columns, float alpha,
                     bool add)
{
    const __m512 scale = _mm512_set1_ps(alpha);
    for (int64_t i = 0; i < rows; i++, c += ldc, sums += width)
        for (int64_t j = 0; j < columns; j += SIDE) {
            __mmask16 there = first(columns - j);
            __m512 old = add ? _mm512_maskz_loadu_ps(there, c + j) : _mm512_setzero_ps();
            _mm512_mask_storeu_ps(c + j, there, _mm512_fmadd_ps(scale, _mm512_load_ps(sums + j), old));
            fetch(c + 2 * ldc + j);
        }
}

/*
 * A product: A and B as operands, C's rows and columns in blocks. A's strips are cut in groups, by turns into two places; so
 * are B's blocks, where the next one is cut while the last group of the one before is at work.
 */
typedef struct product {
    operand a, b;
    int64_t m, k, depth;
    float alpha;
    bool add;
    int64_t group;
    char *a_at[2], *b_at[2]; /* b_at[1] NULL: B is cut when it is its turn */
    float *sums;             /* a strip of C, or */
    bool whole;              /* all of a block of columns, which goes to C once, when k is at its end */
} product;

static operand a_from(const product *p, int64_t i, int64_t k)
{
    return (operand){p->a.x + i * p->a.row + k * p->a.column, p->a.row, p->a.column};
}

static operand b_from(const product *p, int64_t j, int64_t k)
{
    return (operand){p->b.x + j * p->b.row + k * p->b.column, p->b.row, p->b.column};
}

/* What is cut next: a group of A, or a block of B. */
static cutter group_of(const product *p, int64_t turn, int64_t i, int64_t k)
{
    return cutter_of(p->a_at[turn % 2], a_from(p, i, k), least(p->group * STRIP, p->m - i), least(p->depth, p->k - k), false);
}

static cutter block_of(const product *p, int64_t turn, int64_t j, int64_t n, int64_t k)
{
    return cutter_of(p->b_at[p->b_at[1] != NULL ? turn % 2 : 0], b_from(p, j, k), n, least(p->depth, p->k - k), true);
}

/* Steps of cutting behind every four tile products, so that all is done with the last. */
static int64_t steps_for(const cutter *next, int64_t strips, int64_t width, int64_t chunks)
{
    int64_t steps = 0, products = strips * (width / STRIP) * chunks * 6;
    for (; next != NULL; next = next->then)
        steps += next->bytes / (PARTS * 64) + (next->turned ? next->bytes / TILE_BYTES : 0);
    return (steps + products - 1) / products;
}

/* Parts that are multiplied: a group of strips of A, from row i on, and a block of B, from k on. */
typedef struct pairing {
    const char *a, *b;
    int64_t i, rows, n, k, K;
} pairing;

/* Their product goes to C, or to its sums, while something is cut. */
static void multiply_group(const product *p, float *c, int64_t ldc, pairing x, cutter *next)
{
    const int64_t chunks = up(x.K, CHUNK) / CHUNK, strip = 2 * chunks * CHUNK_BYTES, width = up(x.n, STRIP);
    const int64_t steps = next->bytes > 0 ? steps_for(next, up(x.rows, STRIP) / STRIP, width, chunks) : 0;
    const bool add = p->add || (x.k > 0 && !p->whole), last = !p->whole || x.k + x.K == p->k;
    for (int64_t i = 0; i < x.rows; i += STRIP, x.a += strip) {
        float *sums = p->whole ? p->sums + (x.i + i) * width : p->sums;
        for (int64_t j = 0; j < width; j += STRIP)
            (next->along ? multiply_along : multiply_across)(sums + j, width, p->whole && x.k > 0, x.a, x.b + j / STRIP * strip,
                                                             chunks, next, steps);
        if (last)
            put_sums(c + (x.i + i) * ldc, ldc, sums, width, least(STRIP, x.rows - i), x.n, p->alpha, add);
    }
    cut_rest(next);
}

/* C[m, n] from column j on. */
static void multiply_columns(const product *p, float *c, int64_t ldc, int64_t j, int64_t n)
{
    const int64_t rows = p->group * STRIP;
    int64_t turn = 0;
    cutter next = group_of(p, 0, 0, 0);
    cut_rest(&next);
    for (int64_t k = 0, block = 0; k < p->k; k += p->depth, block++) {
        const bool last = k + p->depth >= p->k, ahead = !last && p->b_at[1] != NULL;
        cutter b = block_of(p, block, j, n, k), then = {0};
        if (block == 0 || p->b_at[1] == NULL)
            cut_rest(&b);
        for (int64_t i = 0; i < p->m; i += rows, turn++) {
            next = (cutter){0};
            if (i + rows < p->m)
                next = group_of(p, turn + 1, i + rows, k);
            else if (!last)
                next = group_of(p, turn + 1, 0, k + p->depth);
            if (i + rows >= p->m && ahead) {
                then = block_of(p, block + 1, j, n, k + p->depth);
                next.then = &then;
            }
            multiply_group(p, c, ldc,
                           (pairing){p->a_at[turn % 2], b.to, i, least(rows, p->m - i), n, k, least(p->depth, p->k - k)},
                           &next);
        }
    }
}

/* Of k in blocks that are all but equal. */
static int64_t depth_of(int64_t k, int64_t most)
{
    const int64_t blocks = (k + most - 1) / most;
    return up((k + blocks - 1) / blocks, CHUNK);
}

bool CPU(tiles)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                int64_t n, int64_t k, float alpha, float beta)
{
    if (m < FEW || n < NARROW || k < SHORT || (beta != 0 && beta != 1))
        return false;
    char *room = (char *)pac_panels();
    if (room == NULL)
        return false;
    product p = {.a = ta ? (operand){a, 1, lda} : (operand){a, lda, 1},
                 .b = tb ? (operand){b, ldb, 1} : (operand){b, 1, ldb},
                 .m = m,
                 .k = k,
                 .depth = depth_of(k, ta ? ACROSS : DEPTH),
                 .alpha = alpha,
                 .add = beta != 0,
                 .group = ta ? GROUP : 1};
    const int64_t strip = cut_bytes(STRIP, p.depth), places = ta && !tb ? 2 : 1;
    p.whole = ta && m <= MOST_WHOLE;
    p.a_at[0] = room;
    p.a_at[1] = room + p.group * strip;
    p.b_at[0] = room + 2 * p.group * strip;
    const int64_t strips = (ROOM - 2 * p.group * strip) / (places * strip + (p.whole ? up(m, STRIP) / STRIP : 1) * SUMS);
    p.b_at[1] = places == 2 ? p.b_at[0] + strips * strip : NULL;
    p.sums = (float *)(void *)(p.b_at[0] + places * strips * strip);
    configure_tiles();
    for (int64_t j = 0; j < n; j += strips * STRIP)
        multiply_columns(&p, c + j, ldc, j, least(strips * STRIP, n - j));
    _tile_release();
    return true;
}

#else

bool CPU(tiles)(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb, int64_t m,
                int64_t n, int64_t k, float alpha, float beta)
{
    (void)c, (void)ldc, (void)a, (void)lda, (void)ta, (void)b, (void)ldb, (void)tb, (void)m, (void)n, (void)k, (void)alpha,
        (void)beta;
    return false;
}

#endif
