/* pac profile: measure this cluster and write profile.yaml. */
#include "cli.h"
#include "pac/log.h"
#include "pac/parallel.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const kind_names[PAC_COST_NKINDS] = {"encoder block",     "decoder block", "encoder embedding",
                                                        "decoder embedding", "head and loss", "encoder side",
                                                        "decoder side"};

static void print_times(const pac_device *dev)
{
    for (int k = 0; k < PAC_COST_NKINDS; k++) {
        const pac_cost_curve *c = &dev->cost[k];
        int64_t last = c->points - 1;
        if (last < 0 || c->fwd[last] <= 0)
            continue;
        printf("  %-18s %.0f tokens: forward %.3f ms, backward %.3f ms", kind_names[k], c->tokens[last], 1e3 * c->fwd[last],
               1e3 * c->bwd[last]);
        printf(c->spread > 0 ? ", spread %.0f %%\n" : "\n", 100 * c->spread);
    }
}

static void print_device(const pac_device *dev)
{
    printf("%s, memory %.1f MiB%s%s\n", dev->name, dev->memory / 1048576, dev->interface[0] != '\0' ? ", network " : "",
           dev->interface);
    print_times(dev);
    if (dev->update > 0)
        printf("  %-18s %.3g GB/s of what learns\n", "optimizer", 1e-9 / dev->update);
    if (dev->disk_write > 0)
        printf("  %-18s write %.0f MB/s, read %.0f MB/s, %.1f GB free\n", "disk of the cache", dev->disk_write / 1e6,
               dev->disk_read / 1e6, dev->disk_space / 1e9);
    if (dev->port > 0)
        printf("  %-18s %.1f MB/s for all links together\n", "network port", dev->port / 1e6);
}

static void print_devices(const pac_profile *p)
{
    for (int64_t d = 0; d < p->devices; d++) {
        print_device(&p->device[d]);
        for (int64_t e = 0; e < p->devices; e++)
            if (e != d)
                printf("  link to %-10s %.1f MB/s, latency %.1f us\n", p->device[e].name,
                       p->bandwidth[d * p->devices + e] / 1e6, 1e6 * p->latency[d * p->devices + e]);
    }
}

/* Which limit each rank's budget is, gathered at rank 0; the caller frees it. */
static pac_err gather_limits(const pac_job *job, char **out)
{
    const pac_budget *b = &job->limit;
    char line[512], shared[64] = "";
    if (b->sharers > 1)
        snprintf(shared, sizeof shared, ", shared by %lld ranks", (long long)b->sharers);
    snprintf(line, sizeof line, "memory of rank %lld: %s%s%s (%.1f MiB)\n", (long long)pac_world_rank(),
             job->cfg.system.memory_auto ? "" : "system.memory of the configuration; the system allows ", b->what, shared,
             b->bytes / 1048576);
    return pac_gather_text(pac_world(), line, out);
}

static pac_err finish(const pac_args *a, const pac_job *job, const pac_profile *p, const char *limits)
{
    char path[PAC_PATH + 16];
    if (pac_world_rank() != 0)
        return PAC_OK;
    snprintf(path, sizeof path, "%s", a->output != NULL ? a->output : "profile.yaml");
    PAC_TRY(pac_profile_write(p, path));
    if (a->json) {
        char *text = NULL;
        json_t *object =
            json_pack("{s:s, s:I, s:s}", "profile", path, "devices", (json_int_t)p->devices, "model", job->cfg.model.path);
        text = json_dumps(object, JSON_COMPACT);
        printf("%s\n", text != NULL ? text : "{}");
        free(text);
        json_decref(object);
        return PAC_OK;
    }
    if (p->derived[0] != '\0')
        printf("the devices of %s, described and not measured\n", p->derived);
    print_devices(p);
    printf("%swritten to %s\n", limits != NULL ? limits : "", path);
    return PAC_OK;
}

static pac_err measured(const pac_config *cfg, pac_job **job, pac_profile *p)
{
    pac_observer watch = print_observer();
    PAC_TRY(pac_job_open(cfg, PAC_JOB_TRAIN, &watch, job));
    return pac_job_profile(*job, p);
}

pac_err cmd_profile(const pac_args *a)
{
    pac_config cfg;
    pac_job *job = NULL;
    pac_profile p;
    PAC_CHECK(a->rows == 0 || a->devices != NULL, PAC_EUSAGE,
              "profile: --rows is for --devices FILE; what is measured has its rows from task.train");
    PAC_TRY(read_config(a, &cfg));
    pac_err err = a->devices != NULL ? open_described(a, &cfg, &job, &p) : measured(&cfg, &job, &p);
    char *limits = NULL;
    if (err == PAC_OK && a->devices == NULL)
        err = gather_limits(job, &limits);
    if (err == PAC_OK) {
        err = pac_agree(pac_world(), finish(a, job, &p, limits));
        pac_profile_free(&p);
    }
    pac_mem_free(limits);
    pac_job_close(&job);
    return err;
}
