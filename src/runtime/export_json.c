/* The JSON files of an export: PEFT's adapter_config.json, and the model's config.json for the class that is written. */
#include "export.h"
#include "pac/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Takes the reference to j. */
static pac_err write_json(const exporter *e, const char *name, json_t *j)
{
    char path[PAC_PATH];
    char *text = j != NULL ? json_dumps(j, JSON_INDENT(2)) : NULL;
    pac_err err = adapters_path(path, e->dir, name);
    if (err == PAC_OK)
        err = text != NULL ? pac_file_replace_text(path, text) : pac_fail(PAC_ENOMEM, "%s: no memory for its text", path);
    free(text);
    json_decref(j);
    return err;
}

/* ---- PEFT ---- */

static void add_word(json_t *list, const char *word, size_t n)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) if (strlen(json_string_value(v)) == n && strncmp(json_string_value(v), word, n) == 0) return;
    json_array_append_new(list, json_stringn(word, n));
}

/* Last words of the modules that have a low-rank pair: "decoder.block.0.layer.0.SelfAttention.q.lora_A.weight" gives "q". */
static json_t *target_modules(const exporter *e)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < e->count; i++) {
        const char *name = ((const pac_param *)e->learned)[i].name, *end = strstr(name, ".lora_A."), *word = end;
        if (end == NULL)
            continue;
        while (word > name && word[-1] != '.')
            word--;
        add_word(list, word, (size_t)(end - word));
    }
    return list;
}

static json_t *modules_to_save(const hf_form *f)
{
    json_t *list = f->saved[0] != NULL ? json_array() : json_null();
    for (int i = 0; f->saved[i] != NULL; i++)
        json_array_append_new(list, json_string(f->saved[i]));
    return list;
}

static json_t *number(double v)
{
    return v == floor(v) ? json_integer((json_int_t)v) : json_real(v);
}

pac_err export_peft_json(const exporter *e)
{
    const hf_form *f = export_form(e);
    const pac_tune_opts *t = &e->job->tune;
    return write_json(e, "adapter_config.json",
                      json_pack("{s:s, s:s, s:s, s:I, s:o, s:f, s:o, s:o, s:s, s:b, s:b, s:b, s:b, s:b}", "peft_type", "LORA",
                                "task_type", f->task_type, "base_model_name_or_path", e->job->desc.dir, "r",
                                (json_int_t)t->rank, "lora_alpha", number((double)t->alpha), "lora_dropout", 0.0,
                                "target_modules", target_modules(e), "modules_to_save", modules_to_save(f), "bias", "none",
                                "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1, "use_rslora", 0, "use_dora",
                                0));
}

/* ---- the whole model ---- */

/* transformers counts the classes by these two maps. */
static void set_classes(json_t *config, int64_t classes)
{
    json_t *label = json_object(), *id = json_object();
    for (int64_t i = 0; i < classes; i++) {
        char number_text[24], name[32];
        snprintf(number_text, sizeof number_text, "%lld", (long long)i);
        snprintf(name, sizeof name, "LABEL_%lld", (long long)i);
        json_object_set_new(label, number_text, json_string(name));
        json_object_set_new(id, name, json_integer(i));
    }
    json_object_set_new(config, "id2label", label);
    json_object_set_new(config, "label2id", id);
    json_object_set_new(config, "num_labels", json_integer(classes));
    json_object_set_new(config, "problem_type", json_string(classes == 1 ? "regression" : "single_label_classification"));
}

pac_err export_merged_json(const exporter *e)
{
    json_t *c = json_deep_copy(e->config);
    PAC_CHECK(c != NULL, PAC_ENOMEM, "no memory for a config.json");
    json_object_set_new(c, "architectures", json_pack("[s]", export_form(e)->name));
    json_object_set_new(c, "dtype", json_string("float32"));
    json_object_del(c, "torch_dtype"); /* what older files call dtype */
    if (e->job->tune.head == PAC_HEAD_CLASSIFICATION)
        set_classes(c, e->job->tune.classes);
    return write_json(e, "config.json", c);
}
