/* Saved adapters and how a command takes its configuration from them. */
#ifndef PAC_RUNTIME_ADAPTERS_H
#define PAC_RUNTIME_ADAPTERS_H

#include "pac/parallel.h"
#include "pac/runtime.h"
#include "pac/safetensors.h"

#include <jansson.h>

typedef struct adapters_info {
    uint64_t model_id, tokenizer_id;
} adapters_info; /* of the backbone that they were trained on */

/** What learns over all layers, parameters zero (the cached phase). Collective. */
pac_err whole_new(const pac_job *job, pac_tuned **out);
/**
 * Write adapters.safetensors and adapters.json into dir. mine: this stage's parameters under `plan`, or all of them (plan
 * NULL). Rank 0 writes; its memory stays bounded (what it receives lies in a scratch file). Collective.
 */
pac_err adapters_save(const pac_job *job, const pac_plan *plan, const pac_params *mine, const char *dir);
/** dir/name into out [PAC_PATH]. */
pac_err adapters_path(char *out, const char *dir, const char *name);
/** dir/name, a JSON object, which the caller frees. Not collective. Errors: PAC_EIO, PAC_EDATA (with line and column). */
pac_err adapters_read_json(const char *dir, const char *name, json_t **out);
/** Write dir/adapters.json. Not collective. */
pac_err adapters_write_json(const pac_job *job, const char *dir);
/** Take technique, head and task from dir/adapters.json into *c (c->model.path is set), read on rank 0. Collective. */
pac_err adapters_configure(const char *dir, pac_config *c, adapters_info *info);
/** Refuse adapters of another backbone; warn of another tokenizer. Not collective. */
pac_err adapters_check(const pac_job *job, const adapters_info *info, const char *dir);
/** p->w = where the file has the parameter (at any address), whose shape must be the model's. Not collective. */
pac_err adapters_view(const pac_st *f, const char *path, pac_param *p);
/** Fill this rank's parameters from dir/adapters.safetensors, which rank 0 reads. Collective. */
pac_err adapters_load(const pac_job *job, const char *dir, const pac_params *mine);

#endif
