/*
 * One small pool of threads for everything that computes on the processor: own kernels and matrix products alike.
 *
 * Fork and join: the caller works on the first part itself, the others on the rest, but for parts whose thread has not begun by
 * then, which the caller does too. Between two runs the threads spin for
 * some microseconds, then sleep, so a pool at rest takes no core from a neighbour. OpenBLAS runs single threaded inside the
 * parts.
 */
#ifndef PAC_POOL_H
#define PAC_POOL_H

#include "pac/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { PAC_POOL_MOST = 64 }; /* threads of one process */

/** Work on [lo, hi), lo < hi. */
typedef void pac_part_fn(void *user, int64_t lo, int64_t hi);

/**
 * Use n >= 1 threads from now on, at most PAC_POOL_MOST. OPENBLAS_NUM_THREADS, where the user set it to a number, wins. The
 * threads are started here; with 1 there are none. Returns the number in use: fewer where the system has no more. Only from the
 * main thread, outside of parts.
 */
int64_t pac_pool_set_threads(int64_t n);
/** Ends the threads of the pool; what runs on it afterwards runs in the caller. Before the program ends, so that nothing runs
 * while libraries are taken down. Only from the main thread, outside of parts. */
void pac_pool_stop(void);
/** Threads in use, the caller's own among them. */
int64_t pac_pool_threads(void);

/**
 * Run fn on [0, n) cut into contiguous parts, at most one a thread, of at least `grain` each and else as equal as can be: the
 * cut depends on n, grain and the number of threads only. Returns when all are done. Inside a part, and where another thread
 * has the pool, fn runs whole in the caller.
 */
void pac_pool_run(int64_t n, int64_t grain, pac_part_fn *fn, void *user);
/**
 * Run fn(user, i, i + 1) once on each thread i of the pool, on no other: for what a thread keeps. Inside a part, and where
 * another thread has the pool, on the calling thread only.
 */
void pac_pool_run_each(pac_part_fn *fn, void *user);
/** How many parts pac_pool_run() would make: for results that are kept part by part. 1 where it would run fn whole, 0 for n =
 * 0. */
int64_t pac_pool_parts(int64_t n, int64_t grain);
/** From now on every grain is 1, so that small sizes are cut too: for tests. */
void pac_pool_ignore_grain(void);
/** Number of the running part, from 0; 0 outside of parts. */
int64_t pac_pool_part(void);
/** Is the calling thread at work on a part? */
bool pac_pool_inside(void);

#endif
