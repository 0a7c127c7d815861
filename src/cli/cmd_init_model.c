/* pac init-model: random weights of a known shape, for timing and tests. */
#include <stdio.h>

#include "cli.h"

pac_err cmd_init_model(const pac_args *a)
{
    pac_model_desc d;
    PAC_TRY(pac_model_init(a->words[0], a->words[1], (uint64_t)a->seed));
    PAC_TRY(pac_model_describe(a->words[1], &d));
    printf(a->json ? "{\"model\":\"%s\",\"parameters\":%lld}\n" : "%s: %lld parameters\n", a->words[1],
           (long long)pac_model_parameters(&d));
    return PAC_OK;
}
