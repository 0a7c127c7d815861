/* Zeroed plans and profiles of a given size, for those who fill them. On an error the owner frees what there is with the public
 * _free(). */
#ifndef PAC_PLANNER_PLAN_ALLOC_H
#define PAC_PLANNER_PLAN_ALLOC_H

#include "pac/plan.h"

pac_err pac_plan_alloc(int64_t stages, pac_plan *out);
pac_err pac_stage_alloc(int64_t ranks, pac_stage_plan *st);
pac_err pac_profile_alloc(int64_t layers, int64_t devices, pac_profile *p);

#endif
