/* Saved adapters and how a command takes its configuration from them. */
#ifndef PAC_RUNTIME_ADAPTERS_H
#define PAC_RUNTIME_ADAPTERS_H

#include "pac/parallel.h"
#include "pac/runtime.h"

typedef struct adapters_info {
    uint64_t model_id, tokenizer_id;
} adapters_info; /* of the backbone that they were trained on */

/** The side network over all layers, parameters zero. Collective. */
pac_err whole_new(const pac_job *job, pac_side **out);
/** Write adapters.safetensors and adapters.json into dir (rank 0 writes, all learn the outcome). Collective. */
pac_err adapters_save(const pac_job *job, pac_side *whole, const char *dir);
/** Take technique, head and task from dir/adapters.json into *c (c->model.path is set), read on rank 0. Collective. */
pac_err adapters_configure(const char *dir, pac_config *c, adapters_info *info);
/** Refuse adapters of another backbone; warn of another tokenizer. Not collective. */
pac_err adapters_check(const pac_job *job, const adapters_info *info, const char *dir);
/** Fill the whole network from dir/adapters.safetensors. Collective. */
pac_err adapters_load(const char *dir, pac_side *whole);

#endif
