/* Making a parameter list; what everybody may do with one is in pac/tune.h. */
#ifndef PAC_TUNE_PARAMS_H
#define PAC_TUNE_PARAMS_H

#include "pac/tune.h"

/** Flat zeroed arrays for the `count` parameters of `list` (w and g unset), in its order; gradients only where it learns. */
pac_err pac_params_init(pac_params *p, const pac_param *list, int64_t count, bool learns);
void pac_params_free(pac_params *p);

#endif
