/* The planner's plan for a job, its bytes those of a dry run (plan_search.c). */
#ifndef PAC_RUNTIME_PLAN_SEARCH_H
#define PAC_RUNTIME_PLAN_SEARCH_H

#include "pac/runtime.h"

/**
 * The best plan of the configured planner (system.planner). The planner adds bytes up layer by layer; what it chose is run dry,
 * and where that passes a budget it is asked again with as much less there. Not collective. Errors: those of the planner.
 */
pac_err plan_search(const pac_job *job, pac_profile *profile, const pac_plan_request *q, pac_plan_answer *out);

/** Forecast a given plan: times by the cost model, bytes by a dry run. Not collective. */
pac_err plan_predict(const pac_job *job, const pac_plan_request *q, pac_plan *plan);

/**
 * The plan of a single device, for which nothing has to be timed: all layers, as few micro-batches as its budget allows (or
 * train.microbatches); bytes by a dry run, no times. Not collective. Errors: PAC_ENOMEM with what it would need.
 */
pac_err plan_alone(const pac_job *job, pac_plan *out);

/** Is the rank in a stage of the plan? */
bool plan_uses(const pac_plan *plan, int64_t rank);

#endif
