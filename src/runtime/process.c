/* Facts about this process that the system tells: resident size and its peak, memory limits, cores. Linux's /proc and /sys. */
#include "pac/limits.h"
#include "pac/parallel.h"
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

/* How many of the node's processes are under a limit. */
static int64_t sharers(const uint64_t *places, int64_t processes, uint64_t place)
{
    int64_t n = 0;
    for (int64_t i = 0; i < processes * PAC_MOST_LIMITS; i++)
        n += places[i] == place;
    return place == 0 || n < 1 ? 1 : n;
}

static pac_err exchange_places(const pac_limit *limit, int64_t n, uint64_t **out)
{
    uint64_t mine[PAC_MOST_LIMITS] = {0};
    size_t counts[PAC_MAX_DEVICES];
    void *p;
    for (int64_t i = 0; i < pac_node_size(); i++)
        counts[i] = sizeof mine;
    for (int64_t i = 0; i < n; i++)
        mine[i] = limit[i].place;
    PAC_TRY(pac_agree(pac_node(), pac_mem_array(PAC_MEM_OTHER, pac_node_size() * PAC_MOST_LIMITS, sizeof(uint64_t), &p)));
    *out = p;
    return pac_allgatherv(pac_node(), mine, sizeof mine, p, counts);
}

pac_err pac_memory_budget(pac_budget *out)
{
    pac_limit limit[PAC_MOST_LIMITS];
    int64_t n = pac_limits_read("", limit);
    uint64_t *places = NULL;
    pac_err err;
    PAC_GO(exchange_places(limit, n, &places));
    *out = (pac_budget){.sharers = 1, .what = "no limit is known"};
    for (int64_t i = 0; i < n; i++) {
        int64_t shared = sharers(places, pac_node_size(), limit[i].place);
        double bytes = limit[i].bytes / (double)shared;
        if (i > 0 && bytes >= out->bytes)
            continue;
        *out = (pac_budget){.bytes = bytes, .sharers = shared};
        snprintf(out->what, sizeof out->what, "%s", limit[i].what);
    }
out:
    pac_mem_free(places);
    return err;
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
