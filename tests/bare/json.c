/* JSON for jansson.h of this folder: a recursive reader with a bound on depth, and a compact writer. */
#include "jansson.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64, LONGEST_NUMBER = 64 };

typedef enum kind { OBJECT, ARRAY, STRING, INTEGER, REAL, TRUE, FALSE, NOTHING } kind;

struct json_t {
    kind kind;
    char *text; /* of a string */
    json_int_t integer;
    double real;
    size_t count, room; /* members, elements */
    char **key;         /* [count] of an object */
    json_t **item;      /* [count] */
};

/* ---- values ---- */

static json_t *new_value(kind k)
{
    json_t *v = calloc(1, sizeof *v);
    if (v != NULL)
        v->kind = k;
    return v;
}

void json_decref(json_t *v)
{
    if (v == NULL)
        return;
    for (size_t i = 0; i < v->count; i++) {
        if (v->kind == OBJECT)
            free(v->key[i]);
        json_decref(v->item[i]);
    }
    free(v->key);
    free(v->item);
    free(v->text);
    free(v);
}

/* Takes key (NULL: an array's element) and item, also where it fails. */
static bool append(json_t *v, char *key, json_t *item)
{
    bool right = item != NULL && (v->kind == OBJECT) == (key != NULL);
    if (right && v->count == v->room) {
        size_t room = v->room > 0 ? 2 * v->room : 8;
        json_t **items = realloc(v->item, room * sizeof(json_t *));
        v->item = items != NULL ? items : v->item;
        char **keys = v->kind == OBJECT ? realloc(v->key, room * sizeof(char *)) : NULL;
        v->key = keys != NULL ? keys : v->key;
        right = items != NULL && (v->kind != OBJECT || keys != NULL);
        v->room = right ? room : v->room;
    }
    if (!right) {
        free(key);
        json_decref(item);
        return false;
    }
    if (v->kind == OBJECT)
        v->key[v->count] = key;
    v->item[v->count++] = item;
    return true;
}

/* ---- reading ---- */

typedef struct reader {
    const char *text;
    size_t at, bytes;
    const char *why; /* the first fault */
} reader;

static json_t *read_value(reader *r, int depth);

static int peek(const reader *r)
{
    return r->at < r->bytes ? (unsigned char)r->text[r->at] : -1;
}

static void skip_space(reader *r)
{
    while (r->at < r->bytes && strchr(" \t\r\n", r->text[r->at]) != NULL && r->text[r->at] != '\0')
        r->at++;
}

static bool expect(reader *r, char c)
{
    skip_space(r);
    if (peek(r) != c)
        return false;
    r->at++;
    return true;
}

static void *fault(reader *r, const char *why)
{
    if (r->why == NULL)
        r->why = why;
    return NULL;
}

static int hex4(reader *r)
{
    int code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        int c = peek(r);
        if (c < 0 || !isxdigit(c))
            return -1;
        code = 16 * code + (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return code;
}

static size_t put_utf8(char *to, int code)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3f));
    to[0] = (char)((0xf00 >> n & 0xff) | code);
    return n;
}

/* Behind a backslash; writes at most as many bytes as it reads. 0: wrong. */
static size_t read_escape(reader *r, char *to)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    int c = peek(r);
    const char *simple = c > 0 ? strchr(names, c) : NULL;
    r->at++;
    if (simple != NULL) {
        *to = values[simple - names];
        return 1;
    }
    int code = c == 'u' ? hex4(r) : -1;
    if (code >= 0xd800 && code < 0xdc00 && peek(r) == '\\') {
        r->at += 2;
        int low = r->at <= r->bytes && r->text[r->at - 1] == 'u' ? hex4(r) : -1;
        code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : -1;
    }
    bool good = code > 0 && (code < 0xd800 || code > 0xdfff);
    return good ? put_utf8(to, code) : 0;
}

/* The text between quotes, as a new string; NULL: wrong. */
static char *read_text(reader *r)
{
    if (!expect(r, '"'))
        return fault(r, "text expected");
    char *text = malloc(r->bytes - r->at + 1);
    size_t n = 0, more = 1;
    while (text != NULL && more > 0 && peek(r) != '"') {
        int c = peek(r);
        r->at++;
        if (c == '\\')
            more = read_escape(r, text + n);
        else
            more = c >= 0x20;
        if (c != '\\')
            text[n] = (char)c;
        n += more;
    }
    if (text == NULL || more == 0) {
        free(text);
        return fault(r, "text is not closed, or has a wrong character");
    }
    r->at++;
    text[n] = '\0';
    char *fitting = realloc(text, n + 1);
    return fitting != NULL ? fitting : text;
}

static json_t *read_number(reader *r)
{
    char text[LONGEST_NUMBER + 1], *end;
    size_t n = 0;
    while (n < LONGEST_NUMBER && r->at < r->bytes && r->text[r->at] != '\0' &&
           strchr("+-.eE0123456789", r->text[r->at]) != NULL)
        text[n++] = r->text[r->at++];
    text[n] = '\0';
    size_t digits = text[0] == '-';
    bool zero = text[digits] == '0' && isdigit((unsigned char)text[digits + 1]);
    if (!isdigit((unsigned char)text[digits]) || zero)
        return fault(r, "a value expected");
    bool integer = strpbrk(text, ".eE") == NULL;
    json_t *v = new_value(integer ? INTEGER : REAL);
    if (v == NULL)
        return fault(r, "no memory");
    errno = 0;
    v->integer = integer ? strtoll(text, &end, 10) : 0;
    v->real = integer ? (double)v->integer : strtod(text, &end);
    if (*end == '\0' && errno == 0)
        return v;
    json_decref(v);
    return fault(r, "a number that cannot be read");
}

static json_t *read_word(reader *r)
{
    static const struct {
        const char *text;
        kind kind;
    } words[] = {{"true", TRUE}, {"false", FALSE}, {"null", NOTHING}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].text);
        if (r->bytes - r->at >= n && memcmp(r->text + r->at, words[i].text, n) == 0) {
            r->at += n;
            return new_value(words[i].kind);
        }
    }
    return fault(r, "a value expected");
}

static bool read_member(reader *r, json_t *v, int depth)
{
    char *key = NULL;
    if (v->kind == OBJECT) {
        key = read_text(r);
        if (key != NULL && json_object_get(v, key) != NULL)
            fault(r, "duplicate object key");
        else if (key != NULL && !expect(r, ':'))
            fault(r, "':' expected");
    }
    json_t *item = r->why == NULL ? read_value(r, depth) : NULL;
    if (item == NULL) {
        free(key);
        return false;
    }
    return append(v, key, item);
}

static json_t *read_list(reader *r, kind k, char close, int depth)
{
    json_t *v = new_value(k);
    bool good = v != NULL && depth > 0;
    r->at++;
    if (good && expect(r, close))
        return v;
    while (good) {
        good = read_member(r, v, depth - 1);
        if (good && expect(r, close))
            return v;
        good = good && expect(r, ',');
    }
    json_decref(v);
    return fault(r, depth > 0 ? "',' or the end of a list expected" : "lists within lists are too deep");
}

static json_t *read_value(reader *r, int depth)
{
    skip_space(r);
    int c = peek(r);
    if (c == '{')
        return read_list(r, OBJECT, '}', depth);
    if (c == '[')
        return read_list(r, ARRAY, ']', depth);
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(r);
    if (c != '"')
        return read_word(r);
    char *text = read_text(r);
    json_t *v = text != NULL ? new_value(STRING) : NULL;
    if (v != NULL)
        v->text = text;
    else
        free(text);
    return v;
}

static void describe(const reader *r, json_error_t *e)
{
    *e = (json_error_t){.line = 1, .column = 1, .position = (int)r->at};
    for (size_t i = 0; i < r->at && i < r->bytes; i++) {
        e->column = r->text[i] == '\n' ? 1 : e->column + 1;
        e->line += r->text[i] == '\n';
    }
    snprintf(e->text, sizeof e->text, "%s", r->why != NULL ? r->why : "no memory");
}

json_t *json_loadb(const char *text, size_t bytes, size_t flags, json_error_t *error)
{
    reader r = {.text = text, .bytes = bytes};
    (void)flags;
    json_t *v = read_value(&r, DEEPEST);
    skip_space(&r);
    if (v != NULL && r.at == bytes)
        return v;
    if (v != NULL)
        fault(&r, "end of file expected");
    json_decref(v);
    describe(&r, error);
    return NULL;
}

json_t *json_load_file(const char *path, size_t flags, json_error_t *error)
{
    json_error_t unasked;
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    long bytes = f != NULL && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    json_t *v = NULL;
    if (bytes >= 0 && fseek(f, 0, SEEK_SET) == 0)
        text = malloc((size_t)bytes + 1);
    if (text != NULL && fread(text, 1, (size_t)bytes, f) == (size_t)bytes)
        v = json_loadb(text, (size_t)bytes, flags, error != NULL ? error : &unasked);
    free(text);
    if (f != NULL)
        fclose(f);
    return v;
}

/* ---- asking ---- */

bool json_is_object(const json_t *v)
{
    return v != NULL && v->kind == OBJECT;
}

bool json_is_array(const json_t *v)
{
    return v != NULL && v->kind == ARRAY;
}

bool json_is_string(const json_t *v)
{
    return v != NULL && v->kind == STRING;
}

bool json_is_integer(const json_t *v)
{
    return v != NULL && v->kind == INTEGER;
}

bool json_is_number(const json_t *v)
{
    return v != NULL && (v->kind == INTEGER || v->kind == REAL);
}

bool json_is_true(const json_t *v)
{
    return v != NULL && v->kind == TRUE;
}

bool json_is_boolean(const json_t *v)
{
    return v != NULL && (v->kind == TRUE || v->kind == FALSE);
}

bool json_is_null(const json_t *v)
{
    return v != NULL && v->kind == NOTHING;
}

const char *json_string_value(const json_t *v)
{
    return json_is_string(v) ? v->text : NULL;
}

json_int_t json_integer_value(const json_t *v)
{
    return json_is_integer(v) ? v->integer : 0;
}

double json_number_value(const json_t *v)
{
    return json_is_number(v) ? v->real : 0;
}

size_t json_array_size(const json_t *v)
{
    return json_is_array(v) ? v->count : 0;
}

json_t *json_array_get(const json_t *v, size_t i)
{
    return i < json_array_size(v) ? v->item[i] : NULL;
}

bool json_bare_member(const json_t *object, size_t i, const char **key, json_t **value)
{
    if (!json_is_object(object) || i >= object->count)
        return false;
    *key = object->key[i];
    *value = object->item[i];
    return true;
}

json_t *json_object_get(const json_t *v, const char *key)
{
    const char *name;
    json_t *value;
    json_object_foreach(v, name, value)
    {
        if (strcmp(name, key) == 0)
            return value;
    }
    return NULL;
}

/* ---- making and writing ---- */

json_t *json_object(void)
{
    return new_value(OBJECT);
}

json_t *json_array(void)
{
    return new_value(ARRAY);
}

json_t *json_string(const char *s)
{
    json_t *v = new_value(STRING);
    if (v != NULL && (v->text = strdup(s)) == NULL) {
        free(v);
        return NULL;
    }
    return v;
}

json_t *json_integer(json_int_t n)
{
    json_t *v = new_value(INTEGER);
    if (v != NULL)
        v->integer = n;
    return v;
}

int json_object_set_new(json_t *object, const char *key, json_t *value)
{
    char *copy = strdup(key);
    if (object != NULL && copy != NULL && append(object, copy, value))
        return 0;
    return -1;
}

int json_array_append_new(json_t *array, json_t *value)
{
    return array != NULL && append(array, NULL, value) ? 0 : -1;
}

json_t *json_pack(const char *format, ...)
{
    va_list args;
    if (strcmp(format, "{s:s, s:o, s:[I, I]}") != 0)
        return NULL;
    json_t *object = json_object(), *pair = json_array();
    va_start(args, format);
    const char *key = va_arg(args, const char *);
    json_object_set_new(object, key, json_string(va_arg(args, const char *)));
    key = va_arg(args, const char *);
    json_object_set_new(object, key, va_arg(args, json_t *));
    key = va_arg(args, const char *);
    for (int i = 0; i < 2; i++)
        json_array_append_new(pair, json_integer(va_arg(args, json_int_t)));
    json_object_set_new(object, key, pair);
    va_end(args);
    return object;
}

typedef struct writer {
    char *text;
    size_t room, at;
} writer;

static void put(writer *w, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++, w->at++)
        if (w->at < w->room)
            w->text[w->at] = s[i];
}

static void put_text(writer *w, const char *s)
{
    put(w, "\"", 1);
    for (; *s != '\0'; s++) {
        char escaped[8];
        bool plain = (unsigned char)*s >= 0x20 && *s != '"' && *s != '\\';
        if (plain)
            put(w, s, 1);
        else
            put(w, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned char)*s));
    }
    put(w, "\"", 1);
}

static void put_value(writer *w, const json_t *v)
{
    char number[40];
    if (v->kind == STRING)
        put_text(w, v->text);
    if (v->kind == INTEGER)
        put(w, number, (size_t)snprintf(number, sizeof number, "%lld", v->integer));
    if (v->kind != OBJECT && v->kind != ARRAY)
        return;
    put(w, v->kind == OBJECT ? "{" : "[", 1);
    for (size_t i = 0; i < v->count; i++) {
        put(w, ",", i > 0);
        if (v->kind == OBJECT) {
            put_text(w, v->key[i]);
            put(w, ":", 1);
        }
        put_value(w, v->item[i]);
    }
    put(w, v->kind == OBJECT ? "}" : "]", 1);
}

size_t json_dumpb(const json_t *v, char *text, size_t room, size_t flags)
{
    writer w = {.text = text, .room = text != NULL ? room : 0};
    (void)flags;
    put_value(&w, v);
    return w.at;
}
