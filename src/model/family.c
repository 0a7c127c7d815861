/* The table of families, the way from a model directory to its description, and what several families read alike. */
#include "family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const pac_family *const families[] = {
    &pac_family_t5,
    &pac_family_bart,
    &pac_family_bert,
    &pac_family_distilbert,
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
    pac_model_desc d = {.head_scale = 1.0f, .embed_scale = 1.0f, .init_std = 0.02f, .head_act = PAC_ACT_TANH};
    pac_err err;
    snprintf(d.dir, sizeof d.dir, "%s", dir);
    PAC_GO(find_family(&c, &d.family));
    PAC_GO(d.family->read_config(&c, &d));
    if (pac_depth(&d) > PAC_MAX_BLOCKS)
        PAC_GO(pac_fail(PAC_EDATA, "%s: %lld + %lld layers; at most %d are supported", path, (long long)d.layers[PAC_ENC],
                        (long long)d.layers[PAC_DEC], PAC_MAX_BLOCKS));
    *out = d;
out:
    pac_hf_done(&c);
    return err;
}

pac_err pac_family_act(const hf_config *c, const char *key, pac_act *out)
{
    static const char *const names[] = {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh", NULL};
    static const pac_act acts[] = {PAC_ACT_GELU, PAC_ACT_GELU_NEW, PAC_ACT_GELU_NEW, PAC_ACT_RELU,
                                   PAC_ACT_SILU, PAC_ACT_SILU,     PAC_ACT_TANH};
    int i;
    PAC_TRY(pac_hf_choice(c, key, names, &i));
    *out = acts[i];
    return PAC_OK;
}

pac_err pac_family_heads(const hf_config *c, const char *key, pac_block_cfg *b)
{
    PAC_TRY(pac_hf_int(c, key, 1, PAC_MAX_WIDTH, 0, &b->H));
    PAC_CHECK(b->D % b->H == 0, PAC_EDATA, "%s: %s is %lld, which does not divide the width of %lld", c->path, key,
              (long long)b->H, (long long)b->D);
    b->K = b->D / b->H;
    b->scale = (float)(1 / sqrt((double)b->K));
    return PAC_OK;
}

pac_err pac_family_only(const hf_config *c, const char *key, bool supported)
{
    bool is;
    PAC_TRY(pac_hf_bool(c, key, supported, &is));
    PAC_CHECK(is == supported, PAC_EDATA, "%s: %s is %s; only %s is supported", c->path, key, is ? "true" : "false",
              supported ? "true" : "false");
    return PAC_OK;
}
