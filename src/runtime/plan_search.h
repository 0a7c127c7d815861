/* The planner's plan for a job, its bytes those of a dry run (plan_search.c). */
#ifndef PAC_RUNTIME_PLAN_SEARCH_H
#define PAC_RUNTIME_PLAN_SEARCH_H

#include "pac/runtime.h"

/**
 * The best plan of the configured planner (system.planner). The planner adds bytes up layer by layer; what it chose is run dry,
 * and where that passes a budget it is asked again with its sums corrected. Not collective. Errors: those of the planner;
 * PAC_ENOMEM: nothing fits, with a change that was tried and makes a plan fit (plan_misfit.c).
 */
pac_err plan_search(const pac_job *job, pac_profile *profile, const pac_plan_request *q, pac_plan_answer *out);

/** The bytes of every rank, by a dry run; bytes that others gave (profile.bytes_given) stay. Not collective. */
pac_err plan_bytes(const pac_job *job, const pac_profile *p, pac_plan *plan);

/**
 * The same with budgets of one's own ([devices], bytes): the best plan, or, where none was found that fits, the one that lacks
 * least; *lacks: bytes over the budgets, summed over the devices, 0: it fits. *searches (at least 1): how many it may still
 * make; those that it made are taken off. The profile's budgets are restored. Not collective.
 */
pac_err plan_fit(const pac_job *job, pac_profile *p, const double *budget, const pac_plan_request *q, int64_t *searches,
                 pac_plan_answer *out, double *lacks);

/**
 * PAC_ENOMEM: nothing fits; the plan that lacks least (freed), and what would help. Each change that is named was tried, by at
 * most so many `searches`.
 */
pac_err plan_misfit(const pac_job *job, pac_profile *p, const pac_plan_request *q, int64_t searches, pac_plan_answer *near);

/** Searches that may be made for so many devices: one of a large cluster takes seconds. */
int64_t plan_most_searches(int64_t devices);

/** The plan of system.planner: paper, whose memory test is part of it: it may not fit. Errors: PAC_ENOMEM (by that test). */
pac_err plan_by_the_book(const pac_job *job, const pac_profile *p, const pac_plan_request *q, pac_plan_answer *out);

/** The plan of system.groups on these devices. Not collective. Errors: PAC_ECONFIG. */
pac_err plan_of_groups(const pac_job *job, const pac_profile *p, const pac_plan_request *q, pac_plan *out);

/** Forecast a given plan: times by the cost model, bytes by a dry run. Not collective. */
pac_err plan_predict(const pac_job *job, const pac_plan_request *q, pac_plan *plan);

/**
 * The plan of a single device, for which nothing has to be timed: all layers, as few micro-batches as its budget allows (or
 * train.microbatches); bytes by a dry run, no times. Not collective. Errors: PAC_ENOMEM with what it would need.
 */
pac_err plan_alone(const pac_job *job, pac_plan *out);

/** Predicted bytes of each device, 0 where the plan leaves it out. */
void plan_bytes_by_device(const pac_plan *plan, double to[static PAC_MAX_DEVICES]);

/** Is the rank in a stage of the plan? */
bool plan_uses(const pac_plan *plan, int64_t rank);

#endif
