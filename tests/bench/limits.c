/*
 * What the machine does, to hold programs against: sgemm by OpenBLAS's own threads, memory bandwidth by a triad, a file written
 * and read with plain calls. One JSON object.
 *
 *   bench_limits [--threads N] [--disk DIR] [--megabytes N]     without --disk no file is written
 */
#include "rates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const int shape[][3] = {{2048, 2048, 2048}, {2048, 768, 768}, {2048, 3072, 768}, {2048, 768, 3072}};
    int threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int64_t megabytes = 512;
    const char *dir = NULL;
    double disk[3] = {0}, peak = 0;
    start_with_right_core(argv);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--disk") == 0)
            dir = argv[i + 1];
        else if (strcmp(argv[i], "--megabytes") == 0)
            megabytes = atoll(argv[i + 1]);
    }
    if (threads < 1 || threads > BENCH_MOST_THREADS || megabytes < 1)
        return 2;
    printf("{\"threads\":%d", threads);
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        double rate = product_rate(threads, shape[i][0], shape[i][1], shape[i][2]);
        peak = rate > peak ? rate : peak;
        printf(",\"sgemm_%dx%dx%d\":%.4g", shape[i][0], shape[i][1], shape[i][2], rate);
    }
    printf(",\"sgemm\":%.4g,\"triad\":%.4g", peak, triad_rate(threads));
    if (dir != NULL)
        disk_rates(dir, megabytes, disk);
    printf(",\"disk_write\":%.4g,\"disk_read\":%.4g,\"page_cache_read\":%.4g}\n", disk[0], disk[1], disk[2]);
    return 0;
}
