/* pac init-model: random weights of a known shape, for timing and tests. */
#include "cli.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

pac_err cmd_init_model(const pac_args *a)
{
    pac_model_desc d;
    PAC_TRY(pac_model_init(a->words[0], a->words[1], (uint64_t)a->seed));
    PAC_TRY(pac_model_describe(a->words[1], &d));
    long long parameters = pac_model_parameters(&d);
    if (!a->json) {
        printf("%s: %lld parameters\n", a->words[1], parameters);
        return PAC_OK;
    }
    json_t *result = json_pack("{s:s, s:I}", "model", a->words[1], "parameters", (json_int_t)parameters);
    char *text = result != NULL ? json_dumps(result, JSON_COMPACT) : NULL;
    json_decref(result);
    PAC_CHECK(text != NULL, PAC_ENOMEM, "no memory for the result, or '%s' is not UTF-8", a->words[1]);
    printf("%s\n", text);
    free(text);
    return PAC_OK;
}
