/* Facts about this process that the system tells: resident size and its peak, memory limits, cores. Linux's /proc and /sys. */
#include "pac/runtime.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int64_t kib_field(const char *path, const char *key)
{
    char line[256];
    long long value = 0;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%lld", &value) == 1)
            break;
    fclose(f);
    return (int64_t)value * 1024;
}

void pac_process_memory_read(pac_process_memory *out)
{
    *out = (pac_process_memory){
        .rss = kib_field("/proc/self/status", "VmRSS:"),
        .pss = kib_field("/proc/self/smaps_rollup", "Pss:"),
        .peak_rss = kib_field("/proc/self/status", "VmHWM:"),
    };
}

void pac_process_reset_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY);
    if (fd < 0)
        return;
    ssize_t ignored = write(fd, "5", 1); /* 5: reset the peak resident set size; where it fails the old peak stands */
    (void)ignored;
    close(fd);
}

static double limit_of(const char *path)
{
    double bytes = 0;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lf", &bytes) != 1) /* "max": no limit */
        bytes = 0;
    fclose(f);
    return bytes;
}

double pac_memory_budget(int64_t ranks_on_node)
{
    double total = (double)kib_field("/proc/meminfo", "MemAvailable:");
    const char *const limits[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        double limit = limit_of(limits[i]);
        if (limit > 0 && limit < total)
            total = limit;
    }
    return total / (double)(ranks_on_node > 0 ? ranks_on_node : 1);
}

int64_t pac_cores(unsigned char mask[PAC_CORE_MASK])
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        CPU_ZERO(&set);
        CPU_SET(0, &set);
    }
    _Static_assert(sizeof set <= PAC_CORE_MASK, "the mask has room");
    if (mask != NULL) {
        memset(mask, 0, PAC_CORE_MASK);
        memcpy(mask, &set, sizeof set);
    }
    return CPU_COUNT(&set);
}
