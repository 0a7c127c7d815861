/* The table of keys: what src/config/keys.c declares, values.c reads and writes, and config.c walks. */
#ifndef PAC_CONFIG_INTERNAL_H
#define PAC_CONFIG_INTERNAL_H

#include "pac/config.h"
#include "pac/yaml.h"

/* A growing text. */
typedef struct pac_config_out {
    char *s;
    int64_t n, capacity;
} pac_config_out;

typedef struct pac_key pac_key;

/* How values of one type are read from a node into the field, and written as YAML. */
typedef struct pac_key_type {
    pac_err (*read)(const pac_key *k, const pac_yaml_node *n, void *field);
    pac_err (*write)(const pac_key *k, const void *field, pac_config_out *out);
} pac_key_type;

/* A word that a key can have. */
typedef struct pac_word {
    const char *word;
    int value;
    bool later; /* documented, but not in this version */
} pac_word;

struct pac_key {
    const char *name; /* "train.lr" */
    const pac_key_type *type;
    size_t offset, bytes;  /* of the field in pac_config */
    double min, max;       /* numbers */
    const pac_word *words; /* choices; the last has no word */
    bool required;
    int only; /* bits of the techniques that have it, 0: all */
};

extern const pac_key pac_keys[]; /* the last has no name */

/* Types of values. */
extern const pac_key_type pac_type_text, pac_type_int, pac_type_auto_int, pac_type_double, pac_type_float, pac_type_bool, pac_type_bytes,
    pac_type_choice, pac_type_word, pac_type_task, pac_type_layers, pac_type_memory, pac_type_groups, pac_type_warmup;

/** Append printf output. Errors: PAC_ENOMEM. */
pac_err pac_config_print(pac_config_out *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** pac_yaml_fail() with PAC_ENOTBUILT. */
pac_err pac_config_later(const pac_yaml_node *n, const char *what, const char *word);

#endif
