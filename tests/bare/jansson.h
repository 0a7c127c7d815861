/*
 * What src/model and src/io want of jansson, for machines that have no package of it (cuda/build_bare.sh): the same names and
 * results, nothing else. Objects keep the order of their members. Strings are UTF-8, which is not checked.
 */
#ifndef PAC_BARE_JANSSON_H
#define PAC_BARE_JANSSON_H

#include <stdbool.h>
#include <stddef.h>

typedef struct json_t json_t;
typedef long long json_int_t;
typedef struct json_error_t {
    int line, column, position;
    char text[160];
} json_error_t;

enum { JSON_REJECT_DUPLICATES = 1, JSON_COMPACT = 2 };

/* One value with nothing behind it; NULL: *error says what is wrong and where. Duplicate keys are always refused. */
json_t *json_loadb(const char *text, size_t bytes, size_t flags, json_error_t *error);
json_t *json_load_file(const char *path, size_t flags, json_error_t *error);
/* The compact text, as much of it as there is room for; returns its length. */
size_t json_dumpb(const json_t *v, char *text, size_t room, size_t flags);
void json_decref(json_t *v); /* values are never shared */

bool json_is_object(const json_t *v);
bool json_is_array(const json_t *v);
bool json_is_string(const json_t *v);
bool json_is_integer(const json_t *v);
bool json_is_number(const json_t *v);
bool json_is_boolean(const json_t *v);
bool json_is_true(const json_t *v);
bool json_is_null(const json_t *v);
const char *json_string_value(const json_t *v);
json_int_t json_integer_value(const json_t *v);
double json_number_value(const json_t *v);
size_t json_array_size(const json_t *v);
json_t *json_array_get(const json_t *v, size_t i);
json_t *json_object_get(const json_t *v, const char *key);

json_t *json_object(void);
json_t *json_array(void);
json_t *json_string(const char *s);
json_t *json_integer(json_int_t n);
int json_object_set_new(json_t *object, const char *key, json_t *value); /* the key is not there yet */
int json_array_append_new(json_t *array, json_t *value);
/* "{s:s, s:o, s:[I, I]}" only: the entry of a tensor */
json_t *json_pack(const char *format, ...);

/* member i of an object; false: there are no more */
bool json_bare_member(const json_t *object, size_t i, const char **key, json_t **value);
#define json_object_foreach(object, key, value)                                                                                \
    for (size_t json_bare_at = 0; json_bare_member(object, json_bare_at, &(key), &(value)); json_bare_at++)

#endif
