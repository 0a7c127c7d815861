/* The parts of the cluster file's reader: quantities with units, and descriptions of devices. */
#ifndef PAC_PLANNER_CLUSTER_H
#define PAC_PLANNER_CLUSTER_H

#include "pac/cluster.h"
#include "pac/yaml.h"

/* Bytes per second: 160 kbit/s, 80 Tbit/s. */
#define PAC_SLOWEST_LINK 2e4
#define PAC_FASTEST_LINK 1e13

typedef enum pac_quantity { PAC_Q_FLOPS, PAC_Q_BYTES, PAC_Q_RATE, PAC_Q_SECONDS, PAC_Q_NUMBER } pac_quantity;

/* What devices and networks can plausibly have; what is beyond is a wrong unit. */
typedef struct pac_limits {
    double least, most; /* in the basic unit */
    bool or_none;       /* 0 too */
} pac_limits;

/** "1 Gbit/s", "1.28 TFLOP/s", "200 us", "4 GiB", "64": in FLOP/s, bytes, bytes/s, seconds. Errors: PAC_ECONFIG (the message
 * names the range and the unit). */
pac_err pac_read_quantity(const pac_yaml_node *n, const char *what, pac_quantity q, pac_limits range, double *out);

/** Keys of a device description, NULL after the last; those of an entry of a cluster file: name, type and count too. */
extern const char *const pac_device_keys[], *const pac_entry_keys[];

/** Take what the map says of a machine over what *m holds. */
pac_err pac_read_machine(const pac_yaml_node *map, const char *what, pac_machine *m);

/** Is everything there that must be? Fills in what follows from the rest. */
pac_err pac_check_machine(const pac_yaml_node *n, const char *what, pac_machine *m);

/** The description of m->type over *m; `near` is the cluster file's path, `n` the node that names the type. */
pac_err pac_read_type(const pac_yaml_node *n, const char *near, pac_machine *m);

#endif
