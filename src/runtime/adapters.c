/*
 * Saved adapters: adapters.safetensors (the side network and head by name) and adapters.json (everything needed to use them:
 * technique, task and prompt lengths, the identity of the backbone they belong to). docs/formats.md.
 */
#include "adapters.h"
#include "pac/file.h"
#include "pac/log.h"
#include "pac/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FORMAT = 1 };

static const char *const gate_names[] = {"none", "learned", NULL};
static const char *const merge_names[] = {"none", "add", "gated", NULL};
static const char *const head_names[] = {"lm", "classification", NULL};

/* ---- writing ---- */

static pac_err join(char *out, const char *dir, const char *name)
{
    int n = snprintf(out, PAC_PATH, "%s/%s", dir, name);
    PAC_CHECK(n > 0 && n < PAC_PATH, PAC_ECONFIG, "%s: path too long", dir);
    return PAC_OK;
}

static json_t *layer_list(const pac_job *job)
{
    json_t *list = json_array();
    int64_t L = job->desc.layers[PAC_ENC] + job->desc.layers[PAC_DEC];
    for (int64_t l = 0; l < L; l++)
        if (job->side.has_layer[l])
            json_array_append_new(list, json_integer(l));
    return list;
}

static json_t *describe(const pac_job *job)
{
    char model[17], tokenizer[17];
    const pac_config *c = &job->cfg;
    snprintf(model, sizeof model, "%016" PRIx64, job->model_id);
    snprintf(tokenizer, sizeof tokenizer, "%016" PRIx64, job->tokenizer_id);
    return json_pack("{s:i, s:{s:s, s:I, s:s, s:s, s:o}, s:s, s:I, s:{s:s, s:I, s:I, s:s}, s:{s:s, s:s, s:s}}", "format",
                     FORMAT, "technique", "name", "parallel", "reduction", (json_int_t)job->side.reduction, "gate",
                     gate_names[job->side.gate], "merge", merge_names[job->side.merge], "layers", layer_list(job), "head",
                     head_names[job->side.head], "classes", (json_int_t)job->side.classes, "task", "name", c->task.name,
                     "max_source", (json_int_t)c->task.max_source, "max_target", (json_int_t)c->task.max_target, "pad",
                     c->task.pad_max ? "max" : "none", "model", "path", c->model.path, "identity", model, "tokenizer",
                     tokenizer);
}

static pac_err write_json(const pac_job *job, const char *dir)
{
    char path[PAC_PATH], tmp[PAC_PATH + 8];
    PAC_TRY(join(path, dir, "adapters.json"));
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    json_t *j = describe(job);
    PAC_CHECK(j != NULL, PAC_EINTERNAL, "%s: cannot describe the adapters", path);
    int bad = json_dump_file(j, tmp, JSON_INDENT(2));
    json_decref(j);
    PAC_CHECK(bad == 0 && rename(tmp, path) == 0, PAC_EIO, "%s: cannot write: %s", path, strerror(errno));
    return PAC_OK;
}

static pac_err write_tensors(pac_side *whole, const char *dir)
{
    char path[PAC_PATH];
    const pac_params *p = pac_side_params(whole);
    void *v;
    PAC_TRY(join(path, dir, "adapters.safetensors"));
    PAC_TRY(pac_mem_array(PAC_MEM_OTHER, p->count, sizeof(pac_st_entry), &v));
    pac_st_entry *e = v;
    for (int64_t i = 0; i < p->count; i++) {
        e[i] = (pac_st_entry){p->v[i].name, {.dtype = PAC_F32, .ndim = p->v[i].ndim, .data = p->v[i].w}};
        memcpy(e[i].tensor.shape, p->v[i].shape, (size_t)p->v[i].ndim * sizeof(int64_t));
    }
    const char *const metadata[] = {"format", "pac", NULL};
    pac_err err = pac_st_write(path, e, p->count, metadata);
    pac_mem_free(v);
    return err;
}

static pac_err save_at_root(const pac_job *job, pac_side *whole, const char *dir)
{
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(pac_file_make_dirs(dir));
    PAC_TRY(write_tensors(whole, dir));
    return write_json(job, dir);
}

pac_err adapters_save(const pac_job *job, pac_side *whole, const char *dir)
{
    return pac_agree(pac_world(), save_at_root(job, whole, dir));
}

/* ---- reading ---- */

static int64_t index_of(const char *word, const char *const *names)
{
    for (int64_t i = 0; word != NULL && names[i] != NULL; i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    return -1;
}

static pac_err read_layers(const char *path, json_t *list, pac_config *c, int64_t enc_layers, int64_t layers)
{
    bool has[PAC_MAX_LAYERS] = {false};
    size_t i;
    json_t *v;
    PAC_CHECK(json_is_array(list), PAC_EDATA, "%s: technique.layers is not a list", path);
    json_array_foreach(list, i, v)
    {
        json_int_t l = json_integer_value(v);
        PAC_CHECK(json_is_integer(v) && l >= 0 && l < layers, PAC_EDATA, "%s: technique.layers: no layer %lld in this model",
                  path, (long long)l);
        has[l] = true;
    }
    c->technique.all_layers = true;
    c->technique.nlayers = 0;
    for (int64_t l = 0; l < layers; l++)
        c->technique.all_layers = c->technique.all_layers && has[l];
    for (int64_t k = 0; k < PAC_MAX_LAYERS && !c->technique.all_layers; k++)
        if ((k < enc_layers && has[k]) || (enc_layers + k < layers && has[enc_layers + k]))
            c->technique.layers[c->technique.nlayers++] = k + 1;
    return PAC_OK;
}

static pac_err apply_json(const char *path, json_t *j, const pac_model_desc *desc, pac_config *c, adapters_info *info)
{
    const char *gate, *merge, *head, *task, *pad, *technique, *model, *tokenizer;
    json_int_t reduction, classes, max_source, max_target;
    int format;
    json_t *layers;
    json_error_t e;
    int bad =
        json_unpack_ex(j, &e, 0, "{s:i, s:{s:s, s:I, s:s, s:s, s:o}, s:s, s:I, s:{s:s, s:I, s:I, s:s}, s:{s:s, s:s}}", "format",
                       &format, "technique", "name", &technique, "reduction", &reduction, "gate", &gate, "merge", &merge,
                       "layers", &layers, "head", &head, "classes", &classes, "task", "name", &task, "max_source", &max_source,
                       "max_target", &max_target, "pad", &pad, "model", "identity", &model, "tokenizer", &tokenizer);
    PAC_CHECK(bad == 0, PAC_EDATA, "%s: %s", path, e.text);
    PAC_CHECK(format == FORMAT, PAC_EDATA, "%s: format %d, this version reads %d", path, format, FORMAT);
    PAC_CHECK(strcmp(technique, "parallel") == 0, PAC_ENOTBUILT, "%s: technique %s: not built yet", path, technique);
    PAC_CHECK(index_of(gate, gate_names) >= 0 && index_of(merge, merge_names) >= 0 && index_of(head, head_names) >= 0,
              PAC_EDATA, "%s: unknown gate, merge or head", path);
    PAC_CHECK(reduction >= 1 && reduction <= 4096 && max_source >= 1 && max_source <= 1 << 20 && max_target >= 1 &&
                  max_target <= 1 << 20 && strlen(task) < sizeof c->task.name,
              PAC_EDATA, "%s: a number or name is out of range", path);
    c->technique.reduction = reduction;
    c->technique.gate = (pac_gate)index_of(gate, gate_names);
    c->technique.merge = (pac_merge)index_of(merge, merge_names);
    c->head = (pac_head)index_of(head, head_names);
    strcpy(c->task.name, task);
    c->task.max_source = max_source;
    c->task.max_target = max_target;
    c->task.pad_max = strcmp(pad, "max") == 0;
    info->model_id = strtoull(model, NULL, 16);
    info->tokenizer_id = strtoull(tokenizer, NULL, 16);
    return read_layers(path, layers, c, desc->layers[PAC_ENC], desc->layers[PAC_ENC] + desc->layers[PAC_DEC]);
}

static pac_err configure_at_root(const char *dir, pac_config *c, adapters_info *info)
{
    char path[PAC_PATH];
    pac_model_desc desc;
    json_error_t e;
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(join(path, dir, "adapters.json"));
    PAC_CHECK(access(path, R_OK) == 0, PAC_EIO, "%s: %s (a directory written by `pac train` is expected)", path,
              strerror(errno));
    PAC_TRY(pac_model_describe(c->model.path, &desc));
    json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    PAC_CHECK(j != NULL, PAC_EDATA, "%s:%d:%d: %s", path, e.line, e.column, e.text);
    pac_err err = apply_json(path, j, &desc, c, info);
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

static pac_err fill_param(const pac_st *f, const char *path, pac_param *p)
{
    bool found;
    pac_tensor t;
    pac_st_find(f, p->name, &found, &t);
    PAC_CHECK(found, PAC_EDATA, "%s: no tensor %s: these adapters have another shape", path, p->name);
    bool same = t.ndim == p->ndim && t.dtype == PAC_F32;
    for (int i = 0; i < p->ndim && same; i++)
        same = t.shape[i] == p->shape[i];
    PAC_CHECK(same, PAC_EDATA, "%s: tensor %s has another shape or type than this model needs", path, p->name);
    return pac_to_f32(p->w, t.data, t.dtype, p->n);
}

static pac_err load_at_root(const char *dir, pac_side *whole)
{
    char path[PAC_PATH];
    pac_st *f = NULL;
    pac_err err = PAC_OK;
    pac_params *p = pac_side_params(whole);
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(join(path, dir, "adapters.safetensors"));
    PAC_TRY(pac_st_open(path, &f));
    for (int64_t i = 0; i < p->count; i++)
        PAC_GO(fill_param(f, path, &p->v[i]));
    if (pac_st_count(f) != p->count)
        err = pac_fail(PAC_EDATA, "%s: %lld tensors, this model's adapters have %lld", path, (long long)pac_st_count(f),
                       (long long)p->count);
out:
    pac_st_close(&f);
    return err;
}

pac_err adapters_load(const char *dir, pac_side *whole)
{
    pac_params *p = pac_side_params(whole);
    PAC_TRY(pac_agree(pac_world(), load_at_root(dir, whole)));
    return pac_bcast(pac_world(), p->w, (size_t)p->total * sizeof(float), 0);
}

pac_err whole_new(const pac_job *job, pac_side **out)
{
    int64_t L = job->desc.layers[PAC_ENC] + job->desc.layers[PAC_DEC];
    return pac_agree(pac_world(), pac_side_new(&job->desc, &job->side, job->be, 0, L, out));
}
