/* Memory and disks of a plan that was given, or made by a planner that does not look at them. */
#include "fits.h"
#include "planning.h"

#include <math.h>
#include <stdio.h>

void fits_memory(const pac_profile *p, const double *peak, char why[static FITS_WHY])
{
    int64_t worst = -1, others = -1;
    double most = 0;
    for (int64_t d = 0; d < p->devices; d++) {
        double over = peak[d] - p->device[d].memory;
        others += over > 0;
        worst = over > most ? d : worst;
        most = fmax(over, most);
    }
    if (worst < 0)
        return;
    char also[64] = "";
    if (others > 0)
        snprintf(also, sizeof also, ", and %lld more do not fit either", (long long)others);
    snprintf(why, FITS_WHY,
             "%s needs %.1f MiB, its budget is %.1f MiB%s: fewer layers or a smaller share there, more micro-batches, or a "
             "budget of %.0f bytes",
             p->device[worst].name, peak[worst] / 1048576, p->device[worst].memory / 1048576, also, ceil(peak[worst]));
}

void fits_disks(const pac_config *c, const pac_plan_request *run, const pac_plan *plan, char why[static FITS_WHY])
{
    int64_t ranks[PAC_MAX_DEVICES], n = pac_plan_ranks(plan, ranks);
    double bytes = (double)run->rows * run->profile->cached_step_bytes_read;
    if (!run->cached || !plan->cached || c->cache.redistribute != PAC_REDIST_ALLGATHER)
        return;
    for (int64_t i = 0; i < n; i++) {
        const pac_device *d = &run->profile->device[ranks[i]];
        if (!(d->disk_space > 0 && bytes > d->disk_space))
            continue;
        snprintf(
            why, FITS_WHY,
            "%s has room for %.1f MB on its disk, the cache takes %.1f MB: cache.dtype: bf16, cache.redistribute: shard, or "
            "cache: none",
            d->name, d->disk_space / 1e6, bytes / 1e6);
        return;
    }
}

pac_err pac_job_plan_fits(const pac_job *job, const pac_profile *profile, const pac_plan *plan)
{
    double peak[PAC_MAX_DEVICES] = {0};
    char why[FITS_WHY] = "";
    pac_plan_request run = plan_request(job, profile);
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++)
            peak[plan->stage[s].rank[i]] = plan->stage[s].bytes[i];
    fits_memory(profile, peak, why);
    if (why[0] == '\0')
        fits_disks(&job->cfg, &run, plan, why);
    return why[0] == '\0' ? PAC_OK : pac_fail(PAC_ENOMEM, "%s", why);
}
