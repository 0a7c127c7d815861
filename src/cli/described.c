/*
 * Commands that only forecast (--devices FILE, --profile FILE): a job that needs neither weights nor data, and the profile of
 * devices that are not here or were measured once.
 */
#include "cli.h"
#include "pac/estimate.h"
#include "pac/log.h"
#include "pac/parallel.h"

#include <string.h>
#include <unistd.h>

void take_activations(const pac_args *a, pac_profile *p)
{
    int64_t L = p->layers_enc + p->layers_dec;
    if (a->activations == 0)
        return;
    p->bytes_given = true;
    for (int64_t l = 0; l < L; l++)
        p->layer[l].activations = (double)a->activations / (double)L;
}

static pac_err check_cluster(const char *path)
{
    PAC_CHECK(path[0] != '\0', PAC_EUSAGE, "--devices: the name of a cluster file is empty (experiments/clusters/ has some)");
    PAC_CHECK(path[strspn(path, "0123456789")] != '\0' || access(path, F_OK) == 0, PAC_EUSAGE,
              "--devices %s: a cluster file is wanted here (experiments/clusters/ has some; docs/formats.md: cluster.yaml); "
              "a number of equal devices is for pac estimate",
              path);
    return PAC_OK;
}

/* What was assumed in the place of data, and what was asked for in vain. */
static void say_rows(const pac_args *a, const pac_job *job)
{
    const char *data = job->cfg.task.train;
    if (job->train.identity != 0 && a->rows > 0 && a->rows != job->train.rows)
        pac_log(PAC_LOG_WARN, "--rows %lld does not count: %s is here and has %lld rows", (long long)a->rows, data,
                (long long)job->train.rows);
    if (job->train.identity == 0 && a->rows == 0)
        pac_log(PAC_LOG_WARN,
                "task.train: %s %s: every sample is taken to have the greatest lengths (task.max_source, task.max_target), and "
                "an epoch only %lld rows; --rows N says how many there are",
                data, access(data, R_OK) != 0 ? "is not there" : "cannot be read without the model's tokenizer",
                (long long)job->train.rows);
}

static pac_err open_rows(const pac_args *a, const pac_config *cfg, pac_job **job)
{
    PAC_TRY(pac_estimate_open(cfg, job));
    say_rows(a, *job);
    return a->rows > 0 ? pac_estimate_rows(*job, a->rows) : PAC_OK;
}

pac_err open_described(const pac_args *a, const pac_config *cfg, pac_job **job, pac_profile *profile)
{
    pac_err err;
    *job = NULL;
    PAC_TRY(pac_agree(pac_world(), pac_world_size() == 1
                                       ? PAC_OK
                                       : pac_fail(PAC_EUSAGE, "--devices is about devices that are not here: start "
                                                              "one process, without mpirun")));
    PAC_GO(check_cluster(a->devices));
    PAC_GO(open_rows(a, cfg, job));
    PAC_GO(pac_job_cluster_profile(*job, a->devices, profile));
    take_activations(a, profile);
out:
    if (err != PAC_OK)
        pac_job_close(job);
    return err;
}

pac_err open_measured(const pac_args *a, const pac_config *cfg, pac_job **job, pac_profile *profile)
{
    PAC_TRY(pac_profile_read(a->profile, profile));
    take_activations(a, profile);
    return open_rows(a, cfg, job);
}
