/* Reading a cluster file: which devices, how many of each, and what connects them. */
#include "cluster.h"
#include "file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_LINKS = PAC_MAX_DEVICES * PAC_MAX_DEVICES };

static const char *const cluster_keys[] = {"devices", "network", "plain_cross", NULL};
static const char *const network_keys[] = {"topology", "bandwidth", "latency", "efficiency", "gradient_bytes", "links", NULL};
static const char *const link_keys[] = {"between", "bandwidth", "latency", NULL};

typedef struct network {
    bool ports;                /* topology: switch */
    double bandwidth, latency; /* of pairs without a link of their own; not given: 0 and -1 */
    double efficiency, gradient_bytes;
} network;

static const pac_limits bandwidths = {PAC_SLOWEST_LINK, PAC_FASTEST_LINK, false};
static const pac_limits latencies = {0, 0.9, true}; /* no whole number of seconds: who writes 300 means microseconds */

/* ---- devices ---- */

static pac_err entry_count(const pac_yaml_node *n, const char *what, int64_t *out)
{
    *out = 1;
    return pac_yaml_get(n, "count") == NULL ? PAC_OK : pac_read_count(n, what, "count", 1, PAC_MAX_DEVICES, out);
}

static pac_err count_devices(const pac_yaml_node *list, int64_t *out)
{
    int64_t n, sum = 0;
    PAC_TRY(pac_want_list(list, "devices", 1, PAC_MAX_DEVICES));
    for (int64_t i = 0; i < pac_yaml_count(list); i++) {
        const pac_yaml_node *entry = pac_yaml_item(list, i);
        PAC_TRY(pac_want_map(entry, "devices", pac_entry_keys));
        PAC_TRY(entry_count(entry, "devices", &n));
        sum += n;
        if (sum > PAC_MAX_DEVICES)
            return pac_yaml_fail(entry, "devices: more than %d", PAC_MAX_DEVICES);
    }
    *out = sum;
    return PAC_OK;
}

static int64_t find_device(const pac_cluster *c, int64_t n, const char *name)
{
    for (int64_t i = 0; i < n; i++)
        if (strcmp(c->machine[i].name, name) == 0)
            return i;
    return -1;
}

/* The entry's devices: its name, or name-0, name-1, ... with a count. */
static pac_err name_devices(const pac_yaml_node *entry, const pac_machine *m, int64_t n, int64_t *at, pac_cluster *c)
{
    bool many = pac_yaml_get(entry, "count") != NULL;
    for (int64_t i = 0; i < n; i++) {
        pac_machine *to = &c->machine[*at];
        *to = *m;
        if (many)
            snprintf(to->name, sizeof to->name, "%.55s-%d", m->name, (int)(i % PAC_MAX_DEVICES));
        if (find_device(c, *at, to->name) >= 0)
            return pac_yaml_fail(entry, "devices: two are called '%s'", to->name);
        (*at)++;
    }
    return PAC_OK;
}

static pac_err read_entry(const pac_yaml_node *entry, const char *path, int64_t *at, pac_cluster *c)
{
    pac_machine m = {.name = ""};
    const pac_yaml_node *name, *type = pac_yaml_get(entry, "type");
    char what[32];
    int64_t n;
    snprintf(what, sizeof what, "devices[%lld]", (long long)*at);
    PAC_TRY(entry_count(entry, what, &n));
    PAC_TRY(pac_field(entry, what, "name", &name));
    PAC_TRY(pac_read_text(name, "name", m.name, sizeof m.name - 8));
    if (m.name[0] == '\0')
        return pac_yaml_fail(name, "%s.name is empty", what);
    if (type != NULL)
        PAC_TRY(pac_read_type(type, path, &m));
    PAC_TRY(pac_read_machine(entry, what, &m));
    PAC_TRY(pac_check_machine(entry, what, &m));
    return name_devices(entry, &m, n, at, c);
}

/* ---- network ---- */

static pac_err read_head(const pac_yaml_node *n, network *out)
{
    static const char *const topologies[] = {"switch", "direct", NULL};
    const pac_yaml_node *v;
    int64_t topology = 0;
    *out = (network){.efficiency = 1, .latency = -1};
    PAC_TRY(pac_want_map(n, "network", network_keys));
    if ((v = pac_yaml_get(n, "topology")) != NULL)
        PAC_TRY(pac_yaml_choice(v, "network.topology", topologies, &topology));
    out->ports = topology == 0;
    if (out->ports || pac_yaml_get(n, "bandwidth") != NULL) {
        PAC_TRY(pac_field(n, "network", "bandwidth", &v));
        PAC_TRY(pac_read_quantity(v, "network.bandwidth", PAC_Q_RATE, bandwidths, &out->bandwidth));
    }
    if (out->ports || pac_yaml_get(n, "latency") != NULL) {
        PAC_TRY(pac_field(n, "network", "latency", &v));
        PAC_TRY(pac_read_quantity(v, "network.latency", PAC_Q_SECONDS, latencies, &out->latency));
    }
    if ((v = pac_yaml_get(n, "efficiency")) != NULL)
        PAC_TRY(pac_yaml_double(v, "network.efficiency", 0.01, 1, &out->efficiency));
    if ((v = pac_yaml_get(n, "gradient_bytes")) != NULL)
        PAC_TRY(pac_yaml_double(v, "network.gradient_bytes", 0.125, 4, &out->gradient_bytes));
    return PAC_OK;
}

static double port_of(const network *net, const pac_machine *m)
{
    return m->port > 0 && m->port < net->bandwidth ? m->port : net->bandwidth;
}

static void fill_links(const network *net, pac_cluster *c)
{
    int64_t n = c->devices;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            if (i == j)
                continue;
            c->bandwidth[i * n + j] = net->efficiency * fmin(port_of(net, &c->machine[i]), port_of(net, &c->machine[j]));
            c->latency[i * n + j] = net->latency;
        }
}

static pac_err link_end(const pac_yaml_node *n, const pac_cluster *c, int64_t *out)
{
    char name[64];
    const char *names[PAC_MAX_DEVICES + 1] = {NULL};
    PAC_TRY(pac_read_text(n, "between", name, sizeof name));
    *out = find_device(c, c->devices, name);
    if (*out >= 0)
        return PAC_OK;
    for (int64_t i = 0; i < c->devices; i++)
        names[i] = c->machine[i].name;
    const char *nearest = pac_nearest(name, names);
    if (nearest != NULL)
        return pac_yaml_fail(n, "between: no device is called '%s'; did you mean '%s'?", name, nearest);
    return pac_yaml_fail(n, "between: no device is called '%s'", name);
}

/* A pair that is connected otherwise: by a cable of its own, or worse than the rest. */
static pac_err read_link(const pac_yaml_node *n, const network *net, int64_t *line_of, pac_cluster *c)
{
    const pac_yaml_node *pair, *v;
    int64_t end[2];
    PAC_TRY(pac_want_map(n, "links", link_keys));
    PAC_TRY(pac_field(n, "links", "between", &pair));
    PAC_TRY(pac_want_list(pair, "between", 2, 2));
    PAC_TRY(link_end(pac_yaml_item(pair, 0), c, &end[0]));
    PAC_TRY(link_end(pac_yaml_item(pair, 1), c, &end[1]));
    if (end[0] == end[1])
        return pac_yaml_fail(pair, "between: a device has no link to itself");
    int64_t *before = &line_of[(end[0] < end[1] ? end[0] : end[1]) * c->devices + (end[0] < end[1] ? end[1] : end[0])];
    if (*before != 0)
        return pac_yaml_fail(pair, "between: %s and %s have a link in line %lld already; one counts for both directions",
                             c->machine[end[0]].name, c->machine[end[1]].name, (long long)*before);
    *before = pac_yaml_line(pair);
    for (int i = 0; i < 2; i++) {
        int64_t at = end[i] * c->devices + end[1 - i];
        double bandwidth;
        if ((v = pac_yaml_get(n, "bandwidth")) != NULL) {
            PAC_TRY(pac_read_quantity(v, "links.bandwidth", PAC_Q_RATE, bandwidths, &bandwidth));
            c->bandwidth[at] = net->efficiency * bandwidth;
        }
        if ((v = pac_yaml_get(n, "latency")) != NULL)
            PAC_TRY(pac_read_quantity(v, "links.latency", PAC_Q_SECONDS, latencies, &c->latency[at]));
    }
    return PAC_OK;
}

static pac_err read_links(const pac_yaml_node *list, const network *net, pac_cluster *c)
{
    void *line_of; /* of each pair's link, 0: none yet */
    pac_err err = PAC_OK;
    PAC_TRY(pac_want_list(list, "links", 0, MOST_LINKS));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, c->devices * c->devices, sizeof(int64_t), &line_of));
    for (int64_t i = 0; i < pac_yaml_count(list) && err == PAC_OK; i++)
        err = read_link(pac_yaml_item(list, i), net, line_of, c);
    pac_mem_free(line_of);
    return err;
}

/* Every pair has a link of its own, or the network's. */
static pac_err check_links(const pac_yaml_node *n, const pac_cluster *c)
{
    for (int64_t i = 0; i < c->devices; i++)
        for (int64_t j = 0; j < i; j++) {
            int64_t at = i * c->devices + j;
            bool rate = c->bandwidth[at] > 0;
            if (!rate || c->latency[at] < 0)
                return pac_yaml_fail(
                    n, "network: the %s between %s and %s is missing: give it in links, or network.%s for all pairs",
                    rate ? "latency" : "bandwidth", c->machine[j].name, c->machine[i].name, rate ? "latency" : "bandwidth");
        }
    return PAC_OK;
}

/* All of a device's messages at once go through its port, which is no slower than its fastest link (a cable of its own). */
static void fill_ports(const network *net, pac_cluster *c)
{
    for (int64_t i = 0; i < c->devices; i++) {
        c->port[i] = net->efficiency * port_of(net, &c->machine[i]);
        for (int64_t j = 0; j < c->devices; j++)
            c->port[i] = fmax(c->port[i], c->bandwidth[i * c->devices + j]);
    }
}

static pac_err read_network(const pac_yaml_node *root, pac_cluster *c)
{
    const pac_yaml_node *n, *links;
    network net;
    if (c->devices == 1 && pac_yaml_get(root, "network") == NULL)
        return PAC_OK;
    PAC_TRY(pac_field(root, "", "network", &n));
    PAC_TRY(read_head(n, &net));
    c->gradient_bytes = net.gradient_bytes;
    fill_links(&net, c);
    links = pac_yaml_get(n, "links");
    if (links != NULL)
        PAC_TRY(read_links(links, &net, c));
    PAC_TRY(check_links(n, c));
    if (net.ports)
        fill_ports(&net, c);
    return PAC_OK;
}

/* ---- the file ---- */

static pac_err cluster_arrays(int64_t n, pac_cluster *c)
{
    void *v;
    c->devices = n;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, sizeof *c->machine, &v));
    c->machine = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n * n, sizeof(double), &v));
    c->bandwidth = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n * n, sizeof(double), &v));
    c->latency = v;
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, n, sizeof(double), &v));
    c->port = v;
    return PAC_OK;
}

static pac_err read_cluster(const pac_yaml_node *root, const char *path, pac_cluster *c)
{
    const pac_yaml_node *devices, *plain;
    int64_t n = 0, at = 0;
    PAC_TRY(pac_want_map(root, "", cluster_keys));
    if ((plain = pac_yaml_get(root, "plain_cross")) != NULL)
        PAC_TRY(pac_yaml_bool(plain, "plain_cross", &c->plain_cross));
    PAC_TRY(pac_field(root, "", "devices", &devices));
    PAC_TRY(count_devices(devices, &n));
    PAC_TRY(cluster_arrays(n, c));
    for (int64_t i = 0; i < pac_yaml_count(devices); i++)
        PAC_TRY(read_entry(pac_yaml_item(devices, i), path, &at, c));
    return read_network(root, c);
}

pac_err pac_cluster_read(const char *path, pac_cluster *out)
{
    pac_yaml *doc;
    pac_cluster c = {0};
    PAC_TRY(pac_yaml_open(path, &doc));
    pac_err err = read_cluster(pac_yaml_root(doc), path, &c);
    pac_yaml_close(&doc);
    if (err != PAC_OK)
        pac_cluster_free(&c);
    else
        *out = c;
    return err;
}

void pac_cluster_free(pac_cluster *c)
{
    if (c == NULL)
        return;
    pac_mem_free(c->machine);
    pac_mem_free(c->bandwidth);
    pac_mem_free(c->latency);
    pac_mem_free(c->port);
    *c = (pac_cluster){0};
}
