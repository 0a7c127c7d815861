/* Measured links are plausible and the same on every rank, and take a bounded time; the version names library and transport. */
#include "check.h"

#include "pac/clock.h"

#include <string.h>

int main(int argc, char **argv)
{
    CHECK_OK(pac_world_init(&argc, &argv));
    int64_t size = pac_world_size();
    double bandwidth[16], latency[16], start = pac_now();
    CHECK_OK(pac_measure_links(pac_world(), bandwidth, latency));
    double seconds = pac_now() - start;
    CHECK(seconds < 10, "%.1f s", seconds);
    for (int64_t i = 0; i < size * size; i++) {
        CHECK(bandwidth[i] > 1e6 && bandwidth[i] < 1e12, "pair %d: %g bytes/s", (int)i, bandwidth[i]);
        CHECK(i % (size + 1) == 0 ? latency[i] == 0 : latency[i] > 1e-8 && latency[i] < 0.1, "pair %d: %g s", (int)i,
              latency[i]);
        uint64_t bits[2];
        memcpy(&bits[0], &bandwidth[i], sizeof bits[0]);
        memcpy(&bits[1], &latency[i], sizeof bits[1]);
        CHECK_OK(pac_agree_same(pac_world(), bits[0], "bandwidth"));
        CHECK_OK(pac_agree_same(pac_world(), bits[1], "latency"));
    }
    double port[4];
    CHECK_OK(pac_measure_ports(pac_world(), bandwidth, port));
    for (int64_t i = 0; i < size; i++) /* nodes of one rank each share memory, not ports: 0 or a plausible rate */
        CHECK(port[i] == 0 || (pac_node_count() > 2 && port[i] > 1e6 && port[i] < 1e12), "port %d: %g bytes/s", (int)i,
              port[i]);
    char interface[32];
    CHECK_OK(pac_find_interface(interface, sizeof interface));
    CHECK(strcmp(interface, size > 1 ? "shared memory" : "") == 0, "'%s'", interface);
    char version[256];
    pac_mpi_version(version, sizeof version);
    CHECK(strlen(version) > 4 && strchr(version, '\n') == NULL, "'%s'", version);
    if (pac_world_rank() == 0)
        printf("%s\n%.2f s; 0 to last: %.3g bytes/s, %.3g s\n", version, seconds, bandwidth[size - 1], latency[size - 1]);
    pac_world_done();
    CHECK(pac_mem_blocks() == 0, "%d blocks leaked", (int)pac_mem_blocks());
    return 0;
}
