/*
 * Who works on which samples: contiguous ranges that depend on nothing but the arguments, so that every rank computes every
 * other rank's range without asking.
 */
#include "pac/schedule.h"

#include <assert.h>
#include <math.h>

pac_range pac_split_even(int64_t n, int64_t parts, int64_t i)
{
    assert(n >= 0 && parts >= 1 && i >= 0 && i < parts);
    int64_t size = n / parts, larger = n % parts;
    int64_t lo = i * size + (i < larger ? i : larger);
    return (pac_range){.lo = lo, .hi = lo + size + (i < larger)};
}

/* The last cumulative share equals the sum to the bit, so its quotient is exactly 1 and the last boundary exactly n. */
pac_range pac_split_shares(int64_t n, const double *shares, int64_t ranks, int64_t r)
{
    assert(n >= 0 && ranks >= 1 && r >= 0 && r < ranks);
    double sum = 0, before = 0, after = 0;
    for (int64_t i = 0; i < ranks; i++) {
        if (i == r)
            before = sum;
        sum += shares[i];
        if (i == r)
            after = sum;
    }
    assert(sum > 0);
    return (pac_range){.lo = (int64_t)rint((double)n * (before / sum)), .hi = (int64_t)rint((double)n * (after / sum))};
}

pac_range pac_range_intersect(pac_range a, pac_range b)
{
    int64_t lo = a.lo > b.lo ? a.lo : b.lo;
    int64_t hi = a.hi < b.hi ? a.hi : b.hi;
    return (pac_range){.lo = lo, .hi = hi > lo ? hi : lo};
}
