/*
 * What plan and profile files have in common: reading fields and lists with their place in every complaint, and an emitter that
 * keeps the text in memory until it is whole. Emitting never fails in the middle; pac_emit_save() reports the first error.
 */
#ifndef PAC_PLANNER_FILE_H
#define PAC_PLANNER_FILE_H

#include "pac/yaml.h"

/* ---- reading ---- */

/* No quantity of a plan or profile is larger; sums and products of them stay finite. */
#define PAC_LARGEST 1e18

/** map[key], which must be there; `what` names the map in messages ("stages[2]", "" for the file). */
pac_err pac_field(const pac_yaml_node *map, const char *what, const char *key, const pac_yaml_node **out);
/** A map with no keys but `keys` (NULL after the last). */
pac_err pac_want_map(const pac_yaml_node *n, const char *what, const char *const *keys);
/** A list of min..max items. */
pac_err pac_want_list(const pac_yaml_node *n, const char *what, int64_t min, int64_t max);
/** A list of exactly n numbers between lo and hi, into out[]. */
pac_err pac_read_numbers(const pac_yaml_node *list, const char *what, int64_t n, double lo, double hi, double *out);
/** Text of at most bytes - 1 bytes. */
pac_err pac_read_text(const pac_yaml_node *n, const char *what, char *out, size_t bytes);
/** A number field of a map, lo..PAC_LARGEST. */
pac_err pac_read_number(const pac_yaml_node *map, const char *what, const char *key, double lo, double *out);
/** A whole number field of a map. */
pac_err pac_read_count(const pac_yaml_node *map, const char *what, const char *key, int64_t lo, int64_t hi, int64_t *out);

/* ---- writing ---- */

typedef struct pac_emitter {
    char *text;
    int64_t used, capacity;
    pac_err err;
} pac_emitter;

void pac_emit(pac_emitter *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** The shortest decimal number that reads back to x, or x to `digits` (1..17) significant digits; whole numbers in full. */
void pac_emit_number(pac_emitter *e, double x, int digits);
/** "[1, 2, 3]", eight a line, the next lines indented. */
void pac_emit_numbers(pac_emitter *e, const double *x, int64_t n, int digits, int indent);
/** A double-quoted string, escaped. */
void pac_emit_text(pac_emitter *e, const char *s);
/** Replace `path` by the text and free it, also on error. Errors: PAC_EIO, PAC_ENOSPACE, PAC_ENOMEM, PAC_EINVAL (not finite).
 */
pac_err pac_emit_save(pac_emitter *e, const char *path);

#endif
