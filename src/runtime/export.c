/*
 * pac export: what was learned, for other tools. `peft` writes LoRA as PEFT stores it; `merged` writes a complete Hugging Face
 * model: LoRA added to the weights, or the weights of full fine-tuning. Rank 0 does it.
 */
#include "export.h"
#include "pac/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { A_DAY = 24 * 3600 }; /* seconds */

typedef struct format {
    const char *name;
    const char *refusal[4]; /* by technique: why not; NULL: it can be done */
    pac_err (*tensors)(exporter *e);
    pac_err (*json)(const exporter *e);
    bool whole; /* a model, which has its tokenizer beside it */
} format;

static const format formats[] = {
    {"peft",
     {[PAC_TECH_PARALLEL] = "PEFT knows no parallel adapters; `pac predict --adapters` uses them as they are",
      [PAC_TECH_FULL] = "full fine-tuning has no adapters; use --format merged",
      [PAC_TECH_ADAPTERS] = "PEFT has no bottleneck adapters (it stores LoRA); `pac predict --adapters` uses them as they are"},
     export_peft_tensors,
     export_peft_json,
     false},
    {"merged",
     {[PAC_TECH_PARALLEL] =
          "parallel adapters are a network of their own beside the backbone, whose weights they leave as they are: "
          "there is nothing to merge; `pac predict --adapters` uses them",
      [PAC_TECH_ADAPTERS] = "bottleneck adapters are not linear, so no change of the weights equals them; "
                            "`pac predict --adapters` uses them"},
     export_merged_tensors,
     export_merged_json,
     true},
};

static pac_err find_format(const char *name, const format **out)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (name != NULL && strcmp(formats[i].name, name) == 0) {
            *out = &formats[i];
            return PAC_OK;
        }
    return pac_fail(PAC_EUSAGE, "export: --format peft or --format merged is needed");
}

/* ---- which model ---- */

/* The model that the adapters name, into path [PAC_PATH]. */
static pac_err model_of_adapters(const char *dir, char *path)
{
    json_t *j = NULL;
    PAC_TRY(adapters_read_json(dir, "adapters.json", &j));
    const char *named = json_string_value(json_object_get(json_object_get(j, "model"), "path"));
    pac_err err = PAC_OK;
    if (named == NULL || named[0] == '\0' || strlen(named) >= PAC_PATH)
        err = pac_fail(PAC_EDATA, "%s/adapters.json: model: no usable path; give --model DIR", dir);
    else if (access(named, F_OK) != 0)
        err = pac_fail(PAC_EIO, "%s, the model of these adapters, is not here: give --model DIR", named);
    else
        strcpy(path, named);
    json_decref(j);
    return err;
}

static pac_err choose_model(const pac_export_opts *o, pac_config *c)
{
    json_t *name = json_string(o->out_dir); /* part of the result */
    bool utf8 = name != NULL;
    json_decref(name);
    PAC_CHECK(utf8, PAC_EUSAGE, "export: the path OUT is not UTF-8");
    if (pac_world_rank() != 0)
        return PAC_OK;
    if (o->model_dir == NULL)
        return model_of_adapters(o->adapters_dir, c->model.path);
    PAC_CHECK(strlen(o->model_dir) < sizeof c->model.path, PAC_EUSAGE, "--model: path too long");
    strcpy(c->model.path, o->model_dir);
    return PAC_OK;
}

/* ---- writing ---- */

static pac_err check_possible(const exporter *e, const format *f)
{
    const pac_tune_opts *t = &e->job->tune;
    const hf_form *form = export_form(e);
    PAC_CHECK(f->refusal[t->kind] == NULL, PAC_EUSAGE, "export: %s", f->refusal[t->kind]);
    PAC_CHECK(form->name != NULL, PAC_EUSAGE, "export: a %s has no such head in transformers", e->names->model_type);
    PAC_CHECK(!t->separate, PAC_EUSAGE,
              "export: trained with task.pairs: separate; transformers has no class whose head compares two sentences");
    return PAC_OK;
}

static pac_err fill(exporter *e, const format *f)
{
    PAC_TRY(export_open_adapters(e));
    PAC_TRY(f->tensors(e));
    PAC_TRY(f->json(e));
    return f->whole ? export_copy_files(e) : PAC_OK;
}

static pac_err export_at_root(const pac_job *job, const pac_export_opts *o, const format *f, int64_t *tensors)
{
    exporter e = {.job = job, .adapters_dir = o->adapters_dir};
    pac_err err;
    PAC_GO(adapters_read_json(job->desc.dir, "config.json", &e.config));
    const char *type = json_string_value(json_object_get(e.config, "model_type"));
    PAC_GO(export_names(type != NULL ? type : "", &e.names));
    PAC_GO(check_possible(&e, f));
    PAC_GO(export_dir_new(o->out_dir, e.dir));
    PAC_GO(fill(&e, f));
    PAC_GO(export_dir_publish(e.dir, o->out_dir));
    *tensors = e.entries;
    e.dir[0] = '\0';
out:
    if (e.dir[0] != '\0')
        export_dir_remove(e.dir);
    export_tensors_free(&e);
    json_decref(e.config);
    return err;
}

static pac_err result(const pac_job *job, const pac_export_opts *o, int64_t tensors, char **json)
{
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I}", "output", o->out_dir, "format", o->format, "technique",
                          pac_technique_name(job->tune.kind), "model", job->desc.dir, "tensors", (json_int_t)tensors);
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    pac_err err = text != NULL ? pac_mem_strdup(text, json) : pac_fail(PAC_ENOMEM, "no memory for the result");
    free(text);
    json_decref(j);
    return err;
}

static pac_err export_job(const pac_job *job, const pac_export_opts *o, const format *f, char **json)
{
    int64_t tensors = 0;
    if (pac_world_rank() != 0)
        return PAC_OK;
    PAC_TRY(export_at_root(job, o, f, &tensors));
    return result(job, o, tensors, json);
}

pac_err pac_export(const pac_export_opts *o, const pac_observer *watch, char **json)
{
    pac_config c;
    adapters_info info = {0};
    pac_job *job = NULL;
    const format *f = NULL;
    pac_err err;
    pac_config_defaults(&c);
    strcpy(c.backend, "cpu"); /* files in, files out */
    PAC_TRY(pac_agree(pac_world(), find_format(o->format, &f)));
    PAC_TRY(pac_agree(pac_world(), choose_model(o, &c)));
    PAC_TRY(adapters_configure(o->adapters_dir, &c, &info));
    PAC_TRY(pac_job_open(&c, 0, watch, &job));
    PAC_GO(pac_agree(pac_world(), adapters_check(job, &info, o->adapters_dir)));
    double usual = pac_set_timeout(A_DAY); /* a large model and a slow disk are no lost peer */
    err = pac_agree(pac_world(), export_job(job, o, f, json));
    pac_set_timeout(usual);
out:
    pac_job_close(&job);
    return err;
}
