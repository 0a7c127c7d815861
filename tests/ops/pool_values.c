/*
 * Values of dropout, squared error, means and pairs known without the reference.
 */
#include "ops_fixture.h"

#include <math.h>
#include <string.h>

enum { ROWS = 300, COLUMNS = 333 };

static int64_t kept(const float *y, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        count += y[i] != 0;
    return count;
}

/* Three standard deviations of a binomial with this many draws, and a half for chance among the many counts checked. */
static bool plausible(int64_t count, int64_t n, double rate)
{
    return fabs((double)count - (double)n * rate) <= 4.5 * sqrt((double)n * rate * (1 - rate));
}

/* As many elements are dropped as asked for: in all, in a column of many rows, and in those that two masks have in common. */
static void check_drop_rate(const pac_backend *be, float p)
{
    static float x[ROWS * COLUMNS], y[ROWS * COLUMNS], z[ROWS * COLUMNS];
    uint64_t row[ROWS];
    for (int i = 0; i < ROWS * COLUMNS; i++)
        x[i] = 1;
    for (int i = 0; i < ROWS; i++)
        row[i] = (uint64_t)i;
    be->dropout(y, x, row, ROWS, COLUMNS, 1, p);
    be->dropout(z, x, row, ROWS, COLUMNS, 2, p);
    expect(plausible(kept(y, ROWS * COLUMNS), ROWS * COLUMNS, 1 - (double)p), "%s: dropout %g keeps %lld of %d", be->name, p,
           (long long)kept(y, ROWS * COLUMNS), ROWS * COLUMNS);
    int64_t both = 0, below = 0, beside = 0, column = 0;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        expect(y[i] == 0 || y[i] == (float)(1 / (1 - (double)p)), "%s: dropout scales to %g", be->name, y[i]);
        both += y[i] != 0 && z[i] != 0;
        below += i >= COLUMNS && y[i] != 0 && y[i - COLUMNS] != 0;
        beside += i % COLUMNS > 0 && y[i] != 0 && y[i - 1] != 0;
        column += i % COLUMNS == 5 && y[i] != 0;
    }
    double rate = (1 - (double)p) * (1 - (double)p);
    expect(plausible(both, ROWS * COLUMNS, rate), "%s: two keys drop together", be->name);
    expect(plausible(below, (ROWS - 1) * COLUMNS, rate), "%s: two rows drop together", be->name);
    expect(plausible(beside, ROWS * (COLUMNS - 1), rate), "%s: two columns drop together", be->name);
    expect(plausible(column, ROWS, 1 - (double)p), "%s: a column drops %lld of %d", be->name, (long long)(ROWS - column), ROWS);
}

/* A row's mask goes by its name, wherever it stands in the batch and whatever stands beside it. */
static void check_drop_names(const pac_backend *be)
{
    enum { D = 97 };
    float x[3 * D], y[3 * D], one[D];
    uint64_t row[3] = {UINT64_C(1) << 40, 7, UINT64_MAX};
    for (int i = 0; i < 3 * D; i++)
        x[i] = (float)(i % D + 1);
    be->dropout(y, x, row, 3, D, UINT64_C(0x123456789), 0.3f);
    for (int i = 0; i < 3; i++) {
        be->dropout(one, x, row + i, 1, D, UINT64_C(0x123456789), 0.3f);
        expect(memcmp(one, y + i * D, sizeof one) == 0, "%s: a row's mask depends on its place", be->name);
    }
    expect(memcmp(y, y + D, sizeof one) != 0 && memcmp(y, y + 2 * D, sizeof one) != 0, "%s: rows share a mask", be->name);
    x[0] = NAN;
    be->dropout(x, x, row, 1, D, 5, 0);
    expect(isnan(x[0]) && x[1] == 2, "%s: dropout of 0 lets NaN through", be->name);
}

/* u = (3, 4), v = (4, 3): |u| |v| = 25, u.v = 24. */
static void check_pairs(const pac_backend *be)
{
    float uv[4] = {3, 4, 4, 3}, y[8], cosine, dcosine = 25, dy[8] = {0, 0, 0, 0, 1, 1, 0, 0}, duv[4];
    static const float want[8] = {3, 4, 4, 3, 1, 1, 12, 12};
    be->pair_fwd(y, &cosine, uv, 1, 2);
    expect(memcmp(y, want, sizeof y) == 0 && near(cosine, 0.96, 1e-6), "%s: pair by hand", be->name);
    be->pair_bwd(duv, NULL, &dcosine, uv, 1, 2); /* v - 24/25 u */
    expect(near(duv[0], 1.12, 1e-6) && near(duv[1], -0.84, 1e-6) && near(duv[2], -0.84, 1e-6) && near(duv[3], 1.12, 1e-6),
           "%s: gradient of a cosine by hand", be->name);
    be->pair_bwd(duv, dy, NULL, uv, 1, 2);
    expect(duv[0] == -1 && duv[1] == 1 && duv[2] == 1 && duv[3] == -1, "%s: gradient of |u-v| by hand", be->name);
    float same[4] = {1, 0, 1, 0};
    be->pair_bwd(duv, dy, &dcosine, same, 1, 2);
    expect(duv[0] == 0 && duv[2] == 0 && duv[1] == 0 && duv[3] == 0, "%s: equal sentences have no gradient", be->name);
    float none[4] = {0, 0, 2, 0};
    dcosine = 1e-8f;
    be->pair_fwd(NULL, &cosine, none, 1, 2);
    be->pair_bwd(duv, NULL, &dcosine, none, 1, 2);
    expect(cosine == 0 && near(duv[0], 2, 1e-6) && duv[1] == 0 && duv[2] == 0, "%s: a sentence of zeros", be->name);
}

static void check_small_ones(const pac_backend *be)
{
    float y[2] = {3, -1}, value[2] = {1, 1}, loss[2], x[6] = {1, 2, 3, 4, 5, 6}, mean[6];
    be->mse(loss, y, value, 2, 0.5f, false);
    expect(loss[0] == 4 && loss[1] == 4 && y[0] == 3, "%s: squared error by hand", be->name);
    be->mse(loss, y, value, 2, 0.5f, true);
    expect(loss[0] == 4 && y[0] == 2 && y[1] == -2, "%s: gradient of the squared error by hand", be->name);
    int64_t off[4] = {0, 1, 1, 3};
    be->mean_rows_fwd(mean, x, off, 3, 2);
    static const float want[6] = {1, 2, 0, 0, 4, 5};
    expect(memcmp(mean, want, sizeof mean) == 0, "%s: mean of rows by hand", be->name);
    be->mean_rows_bwd(x, mean, off, 3, 2);
    static const float dwant[6] = {1, 2, 2, 2.5f, 2, 2.5f};
    expect(memcmp(x, dwant, sizeof x) == 0, "%s: gradient of a mean by hand", be->name);
    be->zero(NULL, 0);
    be->copy(NULL, NULL, 0);
    float bad[2] = {NAN, INFINITY};
    be->zero(bad, 2);
    expect(bad[0] == 0 && bad[1] == 0, "%s: zero clears what is not a number", be->name);
}

void check_pool_values(const pac_backend *be)
{
    check_drop_rate(be, 0.1f);
    check_drop_rate(be, 0.5f);
    check_drop_names(be);
    check_pairs(be);
    check_small_ones(be);
}
