/*
 * YAML files (configuration, plan, profile, cluster) as a tree whose nodes know their line, so that every complaint names file,
 * line, key and the nearest known key. A thin layer over libyaml.
 */
#ifndef PAC_YAML_H
#define PAC_YAML_H

#include "pac/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct pac_yaml pac_yaml;           /* a document */
typedef struct pac_yaml_node pac_yaml_node; /* borrowed from it */
typedef enum pac_yaml_kind { PAC_YAML_SCALAR, PAC_YAML_LIST, PAC_YAML_MAP } pac_yaml_kind;

/**
 * Parse a file / a text (name is used in messages; one that begins with "--" is a flag, whose value has no lines).
 * Errors: PAC_EIO; PAC_EDATA (over 16 MiB); PAC_ECONFIG with file:line:column (duplicate keys, anchors, tags, more than 16 levels
 * or 1e6 values too).
 */
pac_err pac_yaml_open(const char *path, pac_yaml **out);
pac_err pac_yaml_parse(const char *name, const char *text, pac_yaml **out);
void pac_yaml_close(pac_yaml **y);

const pac_yaml_node *pac_yaml_root(const pac_yaml *y);
pac_yaml_kind pac_yaml_kind_of(const pac_yaml_node *n);
int64_t pac_yaml_count(const pac_yaml_node *n);                              /* items of a list or map */
const pac_yaml_node *pac_yaml_item(const pac_yaml_node *n, int64_t i);       /* value i of a list or map */
const char *pac_yaml_key(const pac_yaml_node *map, int64_t i);
const pac_yaml_node *pac_yaml_get(const pac_yaml_node *map, const char *key); /* NULL: absent */
int64_t pac_yaml_line(const pac_yaml_node *n);                               /* from 1 */
const char *pac_yaml_text(const pac_yaml_node *scalar);                      /* raw text; plain or quoted */

/* Typed reading; `what` is the key path for the message. Errors: PAC_ECONFIG "file:line: train.lr: 'abc' is not a number". */
pac_err pac_yaml_int(const pac_yaml_node *n, const char *what, int64_t min, int64_t max, int64_t *out);
pac_err pac_yaml_double(const pac_yaml_node *n, const char *what, double min, double max, double *out);
pac_err pac_yaml_bool(const pac_yaml_node *n, const char *what, bool *out);
/** Bytes of a unit: "", B, kB, KB, MB, GB, TB, KiB, MiB, GiB, TiB. False: unknown. */
bool pac_yaml_byte_unit(const char *unit, double *bytes);
/** "16 GiB", "200 MB", "1048576": bytes. */
pac_err pac_yaml_bytes(const pac_yaml_node *n, const char *what, double *out);
/** One of names[] (NULL after the last): its index; the message lists them and the nearest. */
pac_err pac_yaml_choice(const pac_yaml_node *n, const char *what, const char *const *names, int64_t *out);
/** Every key of the map is one of keys[] (NULL after the last), else an error with the nearest known key. */
pac_err pac_yaml_known_keys(const pac_yaml_node *map, const char *what, const char *const *keys);
/** pac_fail(PAC_ECONFIG) with "file:line: " in front. */
pac_err pac_yaml_fail(const pac_yaml_node *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** The same with the line of the value's key in its map. */
pac_err pac_yaml_fail_key(const pac_yaml_node *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The known word nearest to `word` (edit distance at most 3), or NULL. */
const char *pac_nearest(const char *word, const char *const *known);

#endif
