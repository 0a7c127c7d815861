/* What is decided before anything runs: the job from its configuration, and plans on every rank: made by the planner, given by
 * the configuration, or read from a file. */
#ifndef PAC_RUNTIME_PLANNING_H
#define PAC_RUNTIME_PLANNING_H

#include "pac/parallel.h"
#include "pac/runtime.h"

/** Model description, task and options of j->cfg, checked against each other. Not collective. */
pac_err job_describe(pac_job *j);
/** Does the run's precision keep rounded copies of frozen matrices on the device? */
bool rounds_weights(const pac_config *c);
/** The backend that the configuration names, its device opened (device.c). Not collective. Errors: PAC_ECONFIG, PAC_ENOTBUILT.
 */
pac_err job_backend(pac_job *j);
void job_backend_done(pac_job *j);
/** With PAC_CUDA_AWARE_MPI=1: messages of device memory without staging, if a trial sum is right (j->direct). Collective. */
pac_err job_try_direct(pac_job *j);
/** What this rank may use of its device in the place of *limit, the host's; unchanged where there is none. Collective on the
 * node. */
pac_err job_device_limit(const pac_job *j, pac_budget *limit);
/** Memory that this rank may use: the configuration's, else what the system allows. Collective on the node. */
pac_err job_budget(pac_job *j);
/** Read and tokenise the data sets (PAC_JOB_TRAIN, PAC_JOB_EVAL) here. Not collective. */
pac_err job_load_data(pac_job *j, int data);

/** Can the system be made of so many devices? Errors: PAC_ECONFIG. Not collective. */
pac_err system_check(const pac_job *job, int64_t devices);
/** Is a given plan one of this system's, and the batch large enough for it? Errors: PAC_ECONFIG, without the file. Not
 * collective. */
pac_err system_check_plan(const pac_job *job, const pac_plan *plan);
/** Is a list of memory budgets as long as there are devices? Errors: PAC_ECONFIG. Not collective. */
pac_err budgets_check(const pac_config *c, int64_t devices);
/** The configured budget of a device (system.memory is not auto). */
double budget_of(const pac_config *c, int64_t device);
/** Send rank 0's plan to all (their *plan is filled). Collective. */
pac_err plan_share(pac_plan *plan);
/** Read a plan file at rank 0; refuse one for other ranks or layers. Collective. */
pac_err plan_load(const pac_job *job, const char *path, pac_plan *out);
/** The optimizer's name and its bytes for each byte that learns. */
void profile_set_optimizer(const pac_job *job, pac_profile *p);
/** Bytes of the cache in this job's cache.dtype, where the profile knows those of a row. */
void profile_set_cache(const pac_job *job, pac_profile *p);
/**
 * Refuse a profile of another model, technique or optimizer (profile_match.h); the configuration's budgets and its type of
 * cache replace those that were profiled. Errors: PAC_ECONFIG. Not collective.
 */
pac_err profile_fit(const pac_job *job, pac_profile *p);
/** What the planner is asked for this job. */
pac_plan_request plan_request(const pac_job *job, const pac_profile *profile);
/** A pipeline over all ranks with nearly equal numbers of layers: eval and predict, where no plan is given. Collective. */
pac_err plan_for_evaluation(const pac_job *job, pac_plan *out);

#endif
