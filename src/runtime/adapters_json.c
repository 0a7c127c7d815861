/*
 * adapters.json: everything needed to use saved adapters: technique with its options, head, task and prompt lengths, the
 * identity of the backbone they belong to. Written at the end of a run, read by the commands that use its result.
 * docs/formats.md.
 */
#include "adapters.h"
#include "pac/file.h"
#include "pac/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FORMAT = 1, LARGEST = 16 << 20 }; /* LARGEST: bytes of a file */

pac_err adapters_path(char *out, const char *dir, const char *name)
{
    int n = snprintf(out, PAC_PATH, "%s/%s", dir, name);
    PAC_CHECK(n > 0 && n < PAC_PATH, PAC_ECONFIG, "%s: path too long", dir);
    return PAC_OK;
}

/* ---- writing ---- */

static json_t *layer_list(const pac_job *job)
{
    json_t *list = json_array();
    int64_t L = pac_depth(&job->desc);
    for (int64_t l = 0; l < L; l++)
        if (job->tune.has_layer[l])
            json_array_append_new(list, json_integer(l));
    return list;
}

static json_t *describe_technique(const pac_job *job)
{
    const pac_tune_opts *t = &job->tune;
    const char *name = pac_technique_name(t->kind);
    switch (t->kind) {
    case PAC_TECH_PARALLEL:
        return json_pack("{s:s, s:I, s:s, s:s, s:o}", "name", name, "reduction", (json_int_t)t->reduction, "gate",
                         pac_config_word("technique.gate", (int)t->gate), "merge",
                         pac_config_word("technique.merge", (int)t->merge), "layers", layer_list(job));
    case PAC_TECH_LORA:
        return json_pack("{s:s, s:I, s:f}", "name", name, "rank", (json_int_t)t->rank, "alpha", (double)t->alpha);
    case PAC_TECH_ADAPTERS:
        return json_pack("{s:s, s:I}", "name", name, "width", (json_int_t)t->width);
    default:
        return json_pack("{s:s}", "name", name);
    }
}

static json_t *describe(const pac_job *job)
{
    char model[17], tokenizer[17];
    const pac_config *c = &job->cfg;
    snprintf(model, sizeof model, "%016" PRIx64, job->model_id);
    snprintf(tokenizer, sizeof tokenizer, "%016" PRIx64, job->tokenizer_id);
    return json_pack("{s:i, s:o, s:s, s:I, s:{s:s, s:I, s:I, s:s, s:s}, s:{s:s, s:s, s:s}}", "format", FORMAT, "technique",
                     describe_technique(job), "head", pac_config_word("head", (int)job->tune.head), "classes",
                     (json_int_t)job->tune.classes, "task", "name", c->task.name, "max_source", (json_int_t)c->task.max_source,
                     "max_target", (json_int_t)c->task.max_target, "pad", pac_config_word("task.pad", c->task.pad_max), "pairs",
                     pac_config_word("task.pairs", c->task.pairs_separate), "model", "path", c->model.path, "identity", model,
                     "tokenizer", tokenizer);
}

pac_err adapters_write_json(const pac_job *job, const char *dir)
{
    char path[PAC_PATH];
    PAC_TRY(adapters_path(path, dir, "adapters.json"));
    json_t *j = describe(job);
    char *text = j != NULL ? json_dumps(j, JSON_INDENT(2)) : NULL;
    pac_err err = text != NULL ? pac_file_replace_text(path, text) : pac_fail(PAC_ENOMEM, "%s: no memory for its text", path);
    free(text);
    json_decref(j);
    return err;
}

/* ---- reading ---- */

pac_err adapters_read_json(const char *dir, const char *name, json_t **out)
{
    char path[PAC_PATH], *text;
    size_t bytes;
    json_error_t e;
    PAC_TRY(adapters_path(path, dir, name));
    PAC_TRY(pac_file_load(path, LARGEST, &text, &bytes));
    json_t *j = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &e);
    pac_mem_free(text);
    PAC_CHECK(j != NULL, PAC_EDATA, "%s:%d:%d: %s", path, e.line, e.column, e.text);
    if (!json_is_object(j)) {
        json_decref(j);
        return pac_fail(PAC_EDATA, "%s:1: a JSON object {...} is expected", path);
    }
    *out = j;
    return PAC_OK;
}

/* A word under `name` in o, which RUN.yaml has under `key`, as its value. */
static pac_err read_word(const char *path, json_t *o, const char *name, const char *key, int *out)
{
    PAC_CHECK(pac_config_value(key, json_string_value(json_object_get(o, name)), out), PAC_EDATA,
              "%s: %s: missing, or no value that this version knows", path, key);
    return PAC_OK;
}

static pac_err read_count(const char *path, json_t *o, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const json_t *v = json_object_get(o, key);
    PAC_CHECK(json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max, PAC_EDATA,
              "%s: %s: an integer from %lld to %lld is expected", path, key, (long long)min, (long long)max);
    *out = json_integer_value(v);
    return PAC_OK;
}

static pac_err read_layers(const char *path, json_t *list, const pac_model_desc *d, pac_config *c)
{
    bool has[PAC_MAX_LAYERS] = {false};
    int64_t enc = d->layers[PAC_ENC], layers = enc + d->layers[PAC_DEC];
    size_t i;
    json_t *v;
    PAC_CHECK(json_is_array(list), PAC_EDATA, "%s: technique.layers is not a list", path);
    json_array_foreach(list, i, v)
    {
        json_int_t l = json_integer_value(v);
        PAC_CHECK(json_is_integer(v) && l >= 0 && l < layers, PAC_EDATA,
                  "%s: technique.layers: no layer %lld in this model: pass the model that these adapters were trained on", path,
                  (long long)l);
        has[l] = true;
    }
    c->technique.all_layers = true;
    c->technique.nlayers = 0;
    for (int64_t l = 0; l < layers; l++)
        c->technique.all_layers = c->technique.all_layers && has[l];
    for (int64_t k = 0; k < PAC_MAX_LAYERS && !c->technique.all_layers; k++)
        if ((k < enc && has[k]) || (enc + k < layers && has[enc + k]))
            c->technique.layers[c->technique.nlayers++] = k + 1;
    return PAC_OK;
}

static pac_err read_technique(const char *path, json_t *o, const pac_model_desc *d, pac_config *c)
{
    int kind, gate, merge;
    double alpha = json_number_value(json_object_get(o, "alpha"));
    PAC_TRY(read_word(path, o, "name", "technique.name", &kind));
    c->technique.kind = (pac_technique_kind)kind;
    switch (c->technique.kind) {
    case PAC_TECH_PARALLEL:
        PAC_TRY(read_count(path, o, "reduction", 1, 4096, &c->technique.reduction));
        PAC_TRY(read_word(path, o, "gate", "technique.gate", &gate));
        PAC_TRY(read_word(path, o, "merge", "technique.merge", &merge));
        c->technique.gate = (pac_gate)gate;
        c->technique.merge = (pac_merge)merge;
        return read_layers(path, json_object_get(o, "layers"), d, c);
    case PAC_TECH_LORA:
        PAC_CHECK(alpha > 0 && alpha < 1e6, PAC_EDATA, "%s: alpha: a number above 0 is expected", path);
        c->technique.alpha = (float)alpha;
        return read_count(path, o, "rank", 1, 1 << 20, &c->technique.rank);
    case PAC_TECH_ADAPTERS:
        return read_count(path, o, "width", 0, 1 << 20, &c->technique.width);
    default:
        return PAC_OK;
    }
}

static pac_err read_task(const char *path, json_t *o, pac_config *c)
{
    const char *name = json_string_value(json_object_get(o, "name"));
    int pad, pairs = false; /* adapters of the first version say nothing of pairs */
    PAC_CHECK(name != NULL && strlen(name) < sizeof c->task.name, PAC_EDATA, "%s: task.name: missing, or too long", path);
    PAC_TRY(read_word(path, o, "pad", "task.pad", &pad));
    if (json_object_get(o, "pairs") != NULL)
        PAC_TRY(read_word(path, o, "pairs", "task.pairs", &pairs));
    PAC_TRY(read_count(path, o, "max_source", 1, 1 << 20, &c->task.max_source));
    PAC_TRY(read_count(path, o, "max_target", 1, 1 << 20, &c->task.max_target));
    strcpy(c->task.name, name);
    c->task.pad_max = pad;
    c->task.pairs_separate = pairs;
    return PAC_OK;
}

static pac_err read_all(const char *path, json_t *j, const pac_model_desc *desc, pac_config *c, adapters_info *info)
{
    int64_t format;
    int head;
    json_t *model = json_object_get(j, "model");
    const char *id = json_string_value(json_object_get(model, "identity"));
    const char *tokenizer = json_string_value(json_object_get(model, "tokenizer"));
    PAC_TRY(read_count(path, j, "format", FORMAT, FORMAT, &format));
    PAC_TRY(read_technique(path, json_object_get(j, "technique"), desc, c));
    PAC_TRY(read_word(path, j, "head", "head", &head));
    c->head = (pac_head)head;
    PAC_TRY(read_task(path, json_object_get(j, "task"), c));
    PAC_CHECK(id != NULL && tokenizer != NULL, PAC_EDATA, "%s: model: identity or tokenizer is missing", path);
    info->model_id = strtoull(id, NULL, 16);
    info->tokenizer_id = strtoull(tokenizer, NULL, 16);
    return PAC_OK;
}

static pac_err configure_at_root(const char *dir, pac_config *c, adapters_info *info)
{
    char path[PAC_PATH];
    pac_model_desc desc;
    json_t *j;
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(adapters_path(path, dir, "adapters.json"));
    PAC_CHECK(access(path, R_OK) == 0, PAC_EIO, "%s: %s (a directory written by `pac train` is expected)", path,
              strerror(errno));
    PAC_TRY(pac_model_describe(c->model.path, &desc));
    PAC_TRY(adapters_read_json(dir, "adapters.json", &j));
    pac_err err = read_all(path, j, &desc, c, info);
    json_decref(j);
    return err;
}

pac_err adapters_configure(const char *dir, pac_config *c, adapters_info *info)
{
    PAC_TRY(pac_agree(pac_world(), configure_at_root(dir, c, info)));
    PAC_TRY(pac_bcast(pac_world(), c, sizeof *c, 0));
    return pac_bcast(pac_world(), info, sizeof *info, 0);
}

static void warn_other_tokenizer(const pac_job *job, const adapters_info *info)
{
    if (pac_world_rank() == 0 && info->tokenizer_id != job->tokenizer_id)
        pac_log(PAC_LOG_WARN, "the tokenizer differs from the one these adapters were trained with");
}

pac_err adapters_check(const pac_job *job, const adapters_info *info, const char *dir)
{
    PAC_CHECK(info->model_id == job->model_id, PAC_EDATA,
              "%s: trained on another backbone (identity %016llx, %s has %016llx): pass the model they belong to", dir,
              (unsigned long long)info->model_id, job->cfg.model.path, (unsigned long long)job->model_id);
    warn_other_tokenizer(job, info);
    return PAC_OK;
}
