/* pac cache info | verify: what a kept activation cache holds, and whether it is undamaged. */
#include "cli.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_fields(const char *json)
{
    const char *key;
    json_t *value, *r = json_loads(json, 0, NULL);
    json_object_foreach(r, key, value)
    {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        printf("%-14s %s\n", key, text != NULL ? text : "");
        free(text);
    }
    json_decref(r);
}

static pac_err info(const pac_args *a, const char *dir)
{
    char *json = NULL;
    PAC_TRY(pac_cache_info(dir, &json));
    if (a->json)
        printf("%s\n", json);
    else
        print_fields(json);
    pac_mem_free(json);
    return PAC_OK;
}

static pac_err verify(const pac_args *a, const char *dir)
{
    int64_t samples = 0, bytes = 0;
    PAC_TRY(pac_cache_verify(dir, &samples, &bytes));
    printf(a->json ? "{\"samples\":%lld,\"bytes\":%lld,\"damaged\":0}\n" : "%lld samples, %lld bytes: every checksum holds\n",
           (long long)samples, (long long)bytes);
    return PAC_OK;
}

pac_err cmd_cache(const pac_args *a)
{
    if (strcmp(a->words[0], "info") == 0)
        return info(a, a->words[1]);
    if (strcmp(a->words[0], "verify") == 0)
        return verify(a, a->words[1]);
    return pac_fail(PAC_EUSAGE, "cache: '%s' is neither info nor verify", a->words[0]);
}
