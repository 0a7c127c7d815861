/* Making a parameter list; what everybody may do with one is in pac/tune.h. */
#ifndef PAC_TUNE_PARAMS_H
#define PAC_TUNE_PARAMS_H

#include "pac/tune.h"

/** Flat zeroed arrays for the `count` parameters of `list` (w and g unset), in its order. Freed by pac_params_free(). */
pac_err pac_params_init(pac_params *p, const pac_param *list, int64_t count);

#endif
