/* Memory and disks of a plan that was given, or made by a planner that does not look at them. */
#include "fits.h"
#include "plan_search.h"
#include "planning.h"

#include "pac/bytes.h"

#include <math.h>
#include <stdio.h>

#define MIB         1048576.0 /* in the last digit printed, what is needed is rounded up, what there is down */
#define WITH_SCALES 1.07      /* i8 rows of 64 values and more: a scale each */

/* Of a device that needs too much: what its stage could give up. */
static void ways_to_less(const pac_plan *plan, int64_t batch, int64_t device, char *to, size_t bytes)
{
    bool layers = false, share = false;
    for (int64_t s = 0; s < plan->stages; s++)
        for (int64_t i = 0; i < plan->stage[s].ranks; i++)
            if (plan->stage[s].rank[i] == device) {
                layers = plan->stage[s].last - plan->stage[s].first > 1 && plan->world > plan->stage[s].ranks;
                share = plan->stage[s].ranks > 1;
            }
    snprintf(to, bytes, "%s%s%s", layers ? "fewer layers there, " : "", share ? "a smaller share there, " : "",
             plan->microbatches < batch ? "more micro-batches, " : "");
}

void fits_memory(const pac_profile *p, const pac_plan *plan, int64_t batch, const double *peak, char why[static FITS_WHY])
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
    char also[64] = "", ways[96], has[32];
    if (others > 0)
        snprintf(also, sizeof also, ", and %lld more do not fit either", (long long)others);
    ways_to_less(plan, batch, worst, ways, sizeof ways);
    snprintf(why, FITS_WHY, "%s needs %.1f MiB, its budget is %s%s: %s%sa budget of %.0f bytes", p->device[worst].name,
             ceil(10 * peak[worst] / MIB) / 10, pac_mib_text(p->device[worst].memory, has), also, ways,
             ways[0] != '\0' ? "or " : "", ceil(peak[worst]));
}

/* Those changes of the configuration with which every disk of the plan has room. */
static void ways_to_store(const pac_config *c, const pac_plan_request *run, const pac_plan *plan, char *to, size_t bytes)
{
    pac_plan_request shard = *run;
    double need, half = c->cache.dtype == PAC_F32 ? 0.5 : 1, quarter = (c->cache.dtype == PAC_F32 ? 1 : 2) * WITH_SCALES / 4;
    const char *type = "", *parts = "";
    shard.sharded = true;
    if (half < 1 && pac_plan_lacks_disk(run->profile, run, plan, half, &need) < 0)
        type = "cache.dtype: bf16, ";
    else if (c->cache.dtype != PAC_I8 && pac_plan_lacks_disk(run->profile, run, plan, quarter, &need) < 0)
        type = "cache.dtype: i8, ";
    if (!run->sharded && pac_plan_lacks_disk(run->profile, &shard, plan, 1, &need) < 0)
        parts = "cache.redistribute: shard, ";
    snprintf(to, bytes, "%s%s%s", type, parts, type[0] != '\0' || parts[0] != '\0' ? "or " : "");
}

bool fits_disks(const pac_config *c, const pac_plan_request *run, const pac_plan *plan, char why[static FITS_WHY])
{
    char ways[96];
    double need = 0;
    int64_t full = run->cached && plan->cached ? pac_plan_lacks_disk(run->profile, run, plan, 1, &need) : -1;
    if (full < 0)
        return true;
    const pac_device *d = &run->profile->device[full];
    ways_to_store(c, run, plan, ways, sizeof ways);
    snprintf(why, FITS_WHY, "%s has room for %.2f MiB on its disk, the cache takes %.2f MiB there: %scache: none", d->name,
             floor(100 * d->disk_space / MIB) / 100, ceil(100 * need / MIB) / 100, ways);
    return false;
}

pac_err pac_job_plan_fits(const pac_job *job, const pac_profile *profile, const pac_plan *plan)
{
    double peak[PAC_MAX_DEVICES];
    char why[FITS_WHY] = "";
    pac_plan_request run = plan_request(job, profile);
    plan_bytes_by_device(plan, peak);
    fits_memory(profile, plan, run.batch, peak, why);
    if (why[0] != '\0')
        return pac_fail(PAC_ENOMEM, "%s", why);
    return fits_disks(&job->cfg, &run, plan, why) ? PAC_OK : pac_fail(PAC_ENOSPACE, "%s", why);
}
