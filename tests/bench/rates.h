/* Limits of the machine that benchmarks are held against. */
#ifndef BENCH_RATES_H
#define BENCH_RATES_H

#include <stdint.h>

enum { BENCH_MOST_THREADS = 256 };

/** Start this program anew, as pac does, where OpenBLAS chose kernels that are not the processor's best. First thing in main(). */
void start_with_right_core(char **argv);

/** FLOP/s of c = a b^T in f32, a [m, k], b [n, k], by so many threads of OpenBLAS's own. */
double product_rate(int threads, int m, int n, int k);

/** Bytes/s of x = y + a z by so many threads, over arrays that few caches hold. */
double triad_rate(int threads);

/** Bytes/s of a file in dir: written and synced, read after its pages were dropped, read again; 0: it did not work. */
void disk_rates(const char *dir, int64_t megabytes, double rate[3]);

#endif
