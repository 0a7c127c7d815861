/* pac export: LoRA for PEFT; merged weights for Hugging Face. */
#include "cli.h"
#include "pac/parallel.h"

#include <jansson.h>
#include <stdio.h>

static void print_table(const char *json)
{
    json_t *r = json_loads(json, 0, NULL);
    printf("%s: %s, %lld tensors\n", json_string_value(json_object_get(r, "output")),
           json_string_value(json_object_get(r, "format")), (long long)json_integer_value(json_object_get(r, "tensors")));
    json_decref(r);
}

pac_err cmd_export(const pac_args *a)
{
    char *json = NULL;
    pac_observer watch = print_observer();
    if (a->adapters == NULL)
        return pac_agree(pac_world(), pac_fail(PAC_EUSAGE, "export: --adapters DIR is needed"));
    const pac_export_opts o = {.model_dir = a->model, .adapters_dir = a->adapters, .format = a->format, .out_dir = a->words[0]};
    pac_err err = pac_export(&o, &watch, &json);
    if (err == PAC_OK)
        print_result(a, json, print_table);
    pac_mem_free(json);
    return err;
}
