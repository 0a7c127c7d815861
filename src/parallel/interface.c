/*
 * Which network interface this rank's traffic takes: every rank publishes its node's addresses, and the system's routes say
 * which interface leads to a peer's. Routes, not a configured name: practice shows that the two differ.
 *
 * A transport that is not TCP may take another way; then this is the way that TCP would take.
 */
#include "internal.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_ADDRESSES = 8, SOME_PORT = 9 };

/* IPv4 addresses of a node, in network order; 0: none. */
typedef struct addresses {
    uint32_t v[MOST_ADDRESSES];
} addresses;

static const struct sockaddr_in *inet_of(const struct ifaddrs *i)
{
    bool usable = i->ifa_addr != NULL && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_UP);
    return usable ? (const struct sockaddr_in *)(const void *)i->ifa_addr : NULL;
}

static void own_addresses(addresses *out)
{
    struct ifaddrs *all;
    int n = 0;
    *out = (addresses){{0}};
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i != NULL && n < MOST_ADDRESSES; i = i->ifa_next)
        if (inet_of(i) != NULL && !(i->ifa_flags & IFF_LOOPBACK))
            out->v[n++] = inet_of(i)->sin_addr.s_addr;
    freeifaddrs(all);
}

/* Is the peer's address in the network of one of this node's interfaces? */
static bool is_near(uint32_t peer)
{
    struct ifaddrs *all;
    bool near = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
        if (inet_of(i) == NULL || i->ifa_netmask == NULL || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        uint32_t mask = ((const struct sockaddr_in *)(const void *)i->ifa_netmask)->sin_addr.s_addr;
        near = near || (inet_of(i)->sin_addr.s_addr & mask) == (peer & mask);
    }
    freeifaddrs(all);
    return near;
}

/* The address from which packets to the peer would leave; nothing is sent. */
static bool source_for(uint32_t peer, uint32_t *out)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(SOME_PORT), .sin_addr = {peer}}, from;
    socklen_t bytes = sizeof from;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (s < 0)
        return false;
    bool known = connect(s, (struct sockaddr *)&to, sizeof to) == 0 && getsockname(s, (struct sockaddr *)&from, &bytes) == 0;
    close(s);
    if (known)
        *out = from.sin_addr.s_addr;
    return known;
}

static bool name_of(uint32_t address, char *out, size_t bytes)
{
    struct ifaddrs *all;
    bool found = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *i = all; i != NULL && !found; i = i->ifa_next) {
        found = inet_of(i) != NULL && inet_of(i)->sin_addr.s_addr == address;
        if (found)
            snprintf(out, bytes, "%s", i->ifa_name);
    }
    freeifaddrs(all);
    return found;
}

/* The way to the first of the peer's addresses that is in a network of ours, else to its first. */
static void way_to(const addresses *peer, char *out, size_t bytes)
{
    uint32_t to = peer->v[0], from;
    for (int i = 0; i < MOST_ADDRESSES && peer->v[i] != 0; i++)
        if (is_near(peer->v[i])) {
            to = peer->v[i];
            break;
        }
    if (to != 0 && source_for(to, &from))
        name_of(from, out, bytes);
}

/* The first rank on another node, else one on this node, else -1. */
static int64_t some_peer(void)
{
    int64_t here = pac_node_of(pac_world_rank()), same = -1;
    for (int64_t r = 0; r < pac_world_size(); r++) {
        if (pac_node_of(r) != here)
            return r;
        if (r != pac_world_rank())
            same = r;
    }
    return same;
}

pac_err pac_find_interface(char *out, size_t bytes)
{
    addresses mine, all[PAC_MAX_DEVICES];
    size_t counts[PAC_MAX_DEVICES];
    char library[512];
    int64_t peer = some_peer();
    for (int64_t i = 0; i < pac_world_size(); i++)
        counts[i] = sizeof mine;
    own_addresses(&mine);
    PAC_TRY(pac_allgatherv(pac_world(), &mine, sizeof mine, all, counts));
    out[0] = '\0';
    if (peer < 0)
        return PAC_OK;
    pac_mpi_version(library, sizeof library);
    bool here = strcmp(pac_world_host_of(peer), pac_world_host()) == 0;
    bool memory = strstr(library, " vader") != NULL || strstr(library, " sm") != NULL || strstr(library, " ucx") != NULL;
    if (here)
        snprintf(out, bytes, "%s", memory ? "shared memory" : "lo");
    else
        way_to(&all[peer], out, bytes);
    return PAC_OK;
}
