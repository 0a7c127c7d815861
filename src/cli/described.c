/* Commands about devices that are not here (--devices FILE): a job without weights or data, and the profile of those devices.
 */
#include "cli.h"
#include "pac/estimate.h"
#include "pac/parallel.h"

void take_activations(const pac_args *a, pac_profile *p)
{
    int64_t L = p->layers_enc + p->layers_dec;
    if (a->activations == 0)
        return;
    p->bytes_given = true;
    for (int64_t l = 0; l < L; l++)
        p->layer[l].activations = (double)a->activations / (double)L;
}

pac_err open_described(const pac_args *a, const pac_config *cfg, pac_job **job, pac_profile *profile)
{
    pac_err err;
    *job = NULL;
    PAC_TRY(pac_agree(pac_world(), pac_world_size() == 1
                                       ? PAC_OK
                                       : pac_fail(PAC_EUSAGE, "--devices is about devices that are not here: start "
                                                              "one process, without mpirun")));
    PAC_GO(pac_estimate_open(cfg, job));
    if (a->rows > 0)
        PAC_GO(pac_estimate_rows(*job, a->rows));
    PAC_GO(pac_job_cluster_profile(*job, a->devices, profile));
    take_activations(a, profile);
out:
    if (err != PAC_OK)
        pac_job_close(job);
    return err;
}
