/*
 * Inside `pac export`: what a job learned, in the files of other tools. export.c leads; the other files each do one part:
 * names (export_names.c), tensors (export_tensors.c), JSON files (export_json.c), the directory (export_dir.c).
 */
#ifndef PAC_RUNTIME_EXPORT_H
#define PAC_RUNTIME_EXPORT_H

#include "adapters.h"
#include "pac/safetensors.h"

#include <jansson.h>

enum { EXPORT_NAME = 256 };

/* ---- names ---- */

/* A class of transformers: how its tensors are called, and what PEFT wants to know of it. */
typedef struct hf_form {
    const char *name;      /* NULL: there is none */
    const char *prefix;    /* of the backbone's tensors */
    const char *task_type; /* PEFT's */
    const char *head[2];   /* modules of our head.dense and head.out; NULL: none */
    const char *saved[3];  /* PEFT's modules_to_save */
} hf_form;

typedef struct hf_names {
    const char *model_type; /* of config.json */
    const char *own_prefix; /* of our names of the backbone's tensors */
    hf_form form[2];        /* by pac_head */
} hf_names;

/** The names of a family. Errors: PAC_EDATA (a family without a row). */
pac_err export_names(const char *model_type, const hf_names **out);
/** A tensor of ours as the class calls it, into out [EXPORT_NAME]. */
void export_name(const hf_names *n, pac_head head, const char *ours, char *out);

/* ---- an export ---- */

typedef struct exporter {
    const pac_job *job;
    const char *adapters_dir;
    char dir[PAC_PATH]; /* where files are written before they appear as a whole */
    json_t *config;     /* of the model */
    const hf_names *names;
    pac_st *adapters; /* adapters.safetensors, mapped */
    void *learned;    /* pac_param[count], w points into the mapping: at any address */
    int64_t count;
    void *entry, *name; /* pac_st_entry[entries], char *[entries]: the file to be written */
    int64_t entries, entry_room, name_room;
    float *values; /* merged weights, in a scratch file */
    int64_t nvalues;
} exporter;

static inline const hf_form *export_form(const exporter *e)
{
    return &e->names->form[e->job->tune.head];
}

/** Map adapters.safetensors and find everything that learned in it. */
pac_err export_open_adapters(exporter *e);
/** adapter_model.safetensors: the low-rank pairs, and the head, by PEFT's names. */
pac_err export_peft_tensors(exporter *e);
/** model.safetensors: the whole model by the names of its class. */
pac_err export_merged_tensors(exporter *e);
void export_tensors_free(exporter *e);

pac_err export_peft_json(const exporter *e);
pac_err export_merged_json(const exporter *e);

/** Files of the model's tokenizer and generation settings. */
pac_err export_copy_files(const exporter *e);
/** A directory beside `out`, which must be empty or absent, into dir [PAC_PATH]. */
pac_err export_dir_new(const char *out, char *dir);
/** It becomes `out`, all at once. */
pac_err export_dir_publish(const char *dir, const char *out);
/** Remove it with its files. */
void export_dir_remove(const char *dir);

#endif
