/* The table of families, and the way from a model directory to its description. */
#include "family.h"

#include <stdio.h>
#include <string.h>

static const pac_family *const families[] = {
    &pac_family_t5,
};

enum { FAMILIES = sizeof families / sizeof families[0] };

const pac_family *pac_family_at(int i)
{
    return i >= 0 && i < FAMILIES ? families[i] : NULL;
}

static pac_err find_family(const hf_config *c, const pac_family **out)
{
    const char *names[FAMILIES + 1] = {NULL};
    for (int i = 0; i < FAMILIES; i++)
        names[i] = families[i]->name;
    int chosen;
    PAC_CHECK(pac_hf_has(c, "model_type"), PAC_EDATA, "%s: model_type is missing", c->path);
    PAC_TRY(pac_hf_choice(c, "model_type", names, &chosen));
    *out = families[chosen];
    return PAC_OK;
}

pac_err pac_model_describe(const char *dir, pac_model_desc *out)
{
    char path[sizeof out->dir + 16];
    PAC_CHECK(strlen(dir) < sizeof out->dir, PAC_EDATA, "%s: the path is longer than %zu bytes", dir, sizeof out->dir - 1);
    snprintf(path, sizeof path, "%s/config.json", dir);
    hf_config c;
    PAC_TRY(pac_hf_open(path, &c));
    pac_model_desc d = {0};
    pac_err err;
    snprintf(d.dir, sizeof d.dir, "%s", dir);
    PAC_GO(find_family(&c, &d.family));
    PAC_GO(d.family->read_config(&c, &d));
    if (d.layers[PAC_ENC] + d.layers[PAC_DEC] > PAC_MAX_BLOCKS)
        PAC_GO(pac_fail(PAC_EDATA, "%s: %lld + %lld layers; at most %d are supported", path, (long long)d.layers[PAC_ENC],
                        (long long)d.layers[PAC_DEC], PAC_MAX_BLOCKS));
    *out = d;
out:
    pac_hf_done(&c);
    return err;
}
