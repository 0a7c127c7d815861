/*
 * Messages between two ranks of a node beside the memory that they pass through, under mpirun -np 2:
 *   one way, and both ways at once (an all-reduce of a side network's gradients), bytes/s, and the part of a triad on one
 * thread.
 */
#include "rates.h"

#include "pac/clock.h"
#include "pac/mem.h"
#include "pac/parallel.h"

#include <stdio.h>

enum { NUMBERS = 5097240, ROUNDS = 9 }; /* T5-Base's side network, k = 8 */

static pac_err sum_rate(double *out)
{
    void *x;
    double best = 1e30;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, NUMBERS, sizeof(float), &x));
    for (int i = 0; i < ROUNDS; i++) {
        PAC_TRY(pac_barrier(pac_world()));
        double start = pac_now();
        PAC_TRY(pac_sum_f32(pac_world(), x, NUMBERS));
        double t = pac_now() - start;
        best = t < best ? t : best;
    }
    pac_mem_free(x);
    *out = NUMBERS * sizeof(float) / best;
    return PAC_OK;
}

static pac_err measure(void)
{
    double bandwidth[4], latency[4], sum, triad = 0;
    PAC_CHECK(pac_world_size() == 2, PAC_EUSAGE, "start it with mpirun -np 2");
    PAC_TRY(pac_measure_links(pac_world(), bandwidth, latency));
    PAC_TRY(sum_rate(&sum));
    if (pac_world_rank() == 0) {
        triad = triad_rate(1);
        printf("message      %7.2f GB/s  %3.0f %% of triad on a thread (%.1f GB/s); latency %.2f us\n", bandwidth[1] * 1e-9,
               100 * bandwidth[1] / triad, triad * 1e-9, latency[1] * 1e6);
        printf("all-reduce   %7.2f GB/s  %3.0f %% of triad, %.1f MB of gradients in %.2f ms\n", sum * 1e-9, 100 * sum / triad,
               NUMBERS * sizeof(float) * 1e-6, NUMBERS * sizeof(float) / sum * 1e3);
    }
    return pac_barrier(pac_world());
}

int main(int argc, char **argv)
{
    pac_err err = pac_world_init(&argc, &argv);
    if (err == PAC_OK)
        err = measure();
    if (err != PAC_OK)
        fprintf(stderr, "bench_link: %s\n", pac_err_message());
    pac_world_done();
    return pac_err_exit_code(err);
}
