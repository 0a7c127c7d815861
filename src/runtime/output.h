/* The output directory of a run: what it must allow, and when files of an earlier run give way. */
#ifndef PAC_RUNTIME_OUTPUT_H
#define PAC_RUNTIME_OUTPUT_H

#include "pac/plan.h"
#include "pac/runtime.h"

/** The directory exists and can be written to; nothing in it changes. Rank 0. */
pac_err output_check(const pac_config *c);
/**
 * From here on the directory is this run's: result.json of an earlier one goes; run.yaml (the configuration with all its
 * defaults and overrides), plan.yaml and profile.yaml (NULL: there is none) are written. Rank 0.
 */
pac_err output_begin(const pac_config *c, const pac_plan *plan, const pac_profile *made);
/** Write result.json (json NULL: nothing). Rank 0. */
pac_err output_result(const pac_config *c, const char *json);

#endif
