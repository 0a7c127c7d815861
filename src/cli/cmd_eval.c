/* pac eval: metrics of saved adapters, or of the untouched backbone. */
#include "cli.h"

#include <jansson.h>
#include <stdio.h>

static void print_table(const char *json)
{
    const char *name;
    json_t *value, *r = json_loads(json, 0, NULL);
    json_object_foreach(json_object_get(r, "metrics"), name, value)
        printf("%-12s %.6f\n", name, json_number_value(value));
    printf("%-12s %lld\n", "rows", (long long)json_integer_value(json_object_get(r, "rows")));
    json_decref(r);
}

pac_err cmd_eval(const pac_args *a)
{
    pac_config cfg;
    char *json = NULL;
    pac_observer watch = print_observer();
    PAC_TRY(read_config(a, &cfg));
    pac_err err = pac_eval(&cfg, a->adapters, a->predictions, &watch, &json);
    if (err == PAC_OK)
        print_result(a, json, print_table);
    pac_mem_free(json);
    return err;
}
