/* Making a parameter list; what everybody may do with one is in pac/tune.h. */
#ifndef PAC_TUNE_PARAMS_H
#define PAC_TUNE_PARAMS_H

#include "pac/tune.h"

/** Flat zeroed arrays in `space` for the `count` parameters of `list` (w and g unset), in its order; gradients only where it
 * learns. */
pac_err pac_params_init(pac_params *p, const pac_param *list, int64_t count, const pac_space *space, bool learns);
void pac_params_free(pac_params *p);

/*
 * The values as the host may read and write them: *values [total] is p->w itself, or a copy in the host's memory, which
 * pac_params_close() writes back (keep) and frees.
 */
pac_err pac_params_open(const pac_params *p, float **values);
pac_err pac_params_close(const pac_params *p, float *values, bool keep);

#endif
