/*
 * The profiler: what layers cost in bytes (layer_bytes.c) and this device in time (profiler_time.c), and the links between all
 * pairs. No device ever holds more than one layer.
 */
#include "profiler.h"
#include "dry_layer.h"
#include "planning.h"

#include <stdio.h>

/* Every rank's device, and the links. */
static pac_err exchange(pac_profile *p, const pac_device *mine)
{
    size_t counts[PAC_MAX_DEVICES], links = (size_t)(p->devices * p->devices) * sizeof(double);
    for (int64_t i = 0; i < p->devices; i++)
        counts[i] = sizeof *mine;
    PAC_TRY(pac_allgatherv(pac_world(), mine, sizeof *mine, p->device, counts));
    PAC_TRY(pac_measure_links(pac_world(), p->bandwidth, p->latency));
    PAC_TRY(pac_bcast(pac_world(), p->bandwidth, links, 0));
    PAC_TRY(pac_bcast(pac_world(), p->latency, links, 0));
    double port[PAC_MAX_DEVICES];
    PAC_TRY(pac_measure_ports(pac_world(), p->bandwidth, port));
    for (int64_t i = 0; i < p->devices; i++)
        p->device[i].port = port[i];
    return PAC_OK;
}

/* Only what has a cache has a use for the disk. */
static pac_err measure_disk(const pac_job *job, pac_device *d)
{
    const pac_config *c = &job->cfg;
    bool useful = c->cache.on && !pac_technique_through(c->technique.kind) && c->train.epochs > 1;
    return useful || c->cache.keep ? profile_disk(c, d) : PAC_OK;
}

pac_err pac_job_profile(pac_job *job, pac_profile *out)
{
    pac_profile p = {0};
    pac_device mine = {.memory = job->budget};
    pac_err err;
    snprintf(mine.name, sizeof mine.name, "%.48s:%lld", pac_world_host(), (long long)pac_world_rank());
    PAC_GO(budgets_check(&job->cfg, pac_world_size()));
    PAC_GO(pac_agree(pac_world(), profile_describe(job, pac_world_size(), &p)));
    PAC_GO(pac_agree(pac_world(), profile_times(job, &mine)));
    PAC_GO(pac_agree(pac_world(), measure_disk(job, &mine)));
    PAC_GO(pac_find_interface(mine.interface, sizeof mine.interface));
    PAC_GO(exchange(&p, &mine));
    *out = p;
out:
    if (err != PAC_OK)
        pac_profile_free(&p);
    return err;
}
