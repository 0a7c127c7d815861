/* Is a profile, or a plan, of this job's model, technique and lengths? */
#ifndef PAC_RUNTIME_PROFILE_MATCH_H
#define PAC_RUNTIME_PROFILE_MATCH_H

#include "pac/plan.h"
#include "pac/runtime.h"

enum { PAC_PLAN_SHAPE = 256 };

/** The model in words: layers, widths, vocabulary. Equal for equal shapes, whatever their weights. */
void model_shape_text(const pac_model_desc *d, char out[static PAC_SHAPE_TEXT]);
/** The technique and the number that sets its size. */
void tune_setting_text(const pac_tune_opts *o, char out[static PAC_SETTING_TEXT]);
/**
 * Refuse a profile of another model, technique or optimizer, or of lengths that are more than twice this run's or less than
 * half; warn of lengths that differ by a twentieth. Errors: PAC_ECONFIG. Not collective.
 */
pac_err profile_matches(const pac_job *job, const pac_profile *p);
/** Refuse a plan of another model. Errors: PAC_ECONFIG. Not collective. */
pac_err plan_matches(const pac_job *job, const char *path, const pac_plan *plan);
/** Refuse a plan where system.groups asks for another. Errors: PAC_ECONFIG. Not collective. */
pac_err groups_match(const pac_job *job, const char *path, const pac_plan *plan);

#endif
