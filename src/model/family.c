/* The table of families, the way from a model directory to its description, and what several families read alike. */
#include "family.h"

#include "pac/file.h"
#include "pac/mem.h"

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

/* The config.json of a shape that a family knows by name; false: none does, `known` lists them all. */
static bool named_shape(const char *shape, char *text, size_t size, size_t *bytes, char *known, size_t room)
{
    const pac_family *f;
    for (int i = 0; (f = pac_family_at(i)) != NULL; i++)
        for (int k = 0; f->shapes[k] != NULL; k++) {
            if (strcmp(f->shapes[k], shape) == 0) {
                *bytes = (size_t)f->shape_config(k, text, size);
                return true;
            }
            snprintf(known + strlen(known), room - strlen(known), "%s, ", f->shapes[k]);
        }
    return false;
}

pac_err pac_family_config_text(const char *shape_or_config, char **text, size_t *bytes)
{
    char own[2048], known[1024] = "";
    if (named_shape(shape_or_config, own, sizeof own, bytes, known, sizeof known))
        return pac_mem_strdup(own, text);
    if (strchr(shape_or_config, '/') != NULL || strstr(shape_or_config, ".json") != NULL)
        return pac_file_load(shape_or_config, PAC_MAX_CONFIG, text, bytes);
    return pac_fail(PAC_EUSAGE, "unknown shape '%s'; known are %sor the path of a config.json", shape_or_config, known);
}

static const char shape_prefix[] = "shape:";

/* The config.json of a directory, or of shape:NAME. */
static pac_err open_config(const char *dir, const char *path, hf_config *c)
{
    size_t letters = sizeof shape_prefix - 1, bytes = 0;
    char *text = NULL;
    if (strncmp(dir, shape_prefix, letters) != 0)
        PAC_TRY(pac_file_load(path, PAC_MAX_CONFIG, &text, &bytes));
    else
        PAC_TRY(pac_family_config_text(dir + letters, &text, &bytes));
    pac_err err = pac_hf_parse(path, text, bytes, c);
    pac_mem_free(text);
    return err;
}

pac_err pac_model_describe(const char *dir, pac_model_desc *out)
{
    char path[sizeof out->dir + 16];
    PAC_CHECK(strlen(dir) < sizeof out->dir, PAC_EDATA, "%s: the path is longer than %zu bytes", dir, sizeof out->dir - 1);
    strcpy(path, dir);
    strcat(path, "/config.json");
    hf_config c;
    PAC_TRY(open_config(dir, path, &c));
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
