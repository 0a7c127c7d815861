/*
 * YAML as a tree whose nodes know their line, built from libyaml's events without recursion.
 *
 * Files are hostile: 16 levels, a million nodes and 16 MiB are the limits; anchors, aliases, tags, complex keys and duplicate
 * keys are refused, so the tree is never larger than the text. Keys are kept sorted beside their order, so looking one up and
 * finding duplicates stay cheap in any file. Typed reading is in yaml_read.c.
 */
#include "pac/yaml.h"

#include "pac/file.h"
#include "pac/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

enum { MAX_DEPTH = 16, MAX_NODES = 1000000, MAX_BYTES = 16 << 20 };

struct pac_yaml_node {
    const pac_yaml *doc;
    pac_yaml_kind kind;
    int64_t line, key_line;          /* a value may begin below its key */
    const char *key;                 /* in its map, else NULL */
    const char *text;                /* scalar */
    int64_t count;                   /* list or map */
    pac_yaml_node *first, *last;     /* while it is being read */
    pac_yaml_node *next;             /* sibling */
    pac_yaml_node **items, **sorted; /* when it is complete; sorted by key: maps only */
};

struct pac_yaml {
    char *name;
    bool has_lines; /* false for the value of a flag: its name is place enough */
    pac_arena *arena;
    pac_yaml_node *root;
    int64_t nodes;
};

typedef struct builder {
    pac_yaml *doc;
    pac_yaml_node *open[MAX_DEPTH];
    const char *key; /* read, its value is still to come */
    int64_t key_line;
    int depth;
    bool done;
} builder;

static pac_err fail_at(const pac_yaml *doc, yaml_mark_t mark, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static pac_err fail_at(const pac_yaml *doc, yaml_mark_t mark, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!doc->has_lines)
        return pac_fail(PAC_ECONFIG, "%s: %s", doc->name, text);
    return pac_fail(PAC_ECONFIG, "%s:%zu:%zu: %s", doc->name, mark.line + 1, mark.column + 1, text);
}

static pac_err fail_in(const pac_yaml *doc, int64_t line, const char *fmt, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, fmt, args);
    if (!doc->has_lines)
        return pac_fail(PAC_ECONFIG, "%s: %s", doc->name, text);
    return pac_fail(PAC_ECONFIG, "%s:%lld: %s", doc->name, (long long)line, text);
}

pac_err pac_yaml_fail(const pac_yaml_node *n, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pac_err err = fail_in(n->doc, n->line, fmt, args);
    va_end(args);
    return err;
}

pac_err pac_yaml_fail_key(const pac_yaml_node *n, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    pac_err err = fail_in(n->doc, n->key_line, fmt, args);
    va_end(args);
    return err;
}

static pac_err copy_scalar(pac_yaml *doc, const yaml_event_t *e, const char **out)
{
    const char *value = (const char *)e->data.scalar.value;
    size_t bytes = e->data.scalar.length;
    if (memchr(value, '\0', bytes) != NULL)
        return fail_at(doc, e->start_mark, "text with a zero byte");
    void *copy;
    PAC_TRY(pac_arena_get(doc->arena, bytes + 1, &copy));
    memcpy(copy, value, bytes);
    ((char *)copy)[bytes] = '\0';
    *out = copy;
    return PAC_OK;
}

static pac_err new_node(builder *b, pac_yaml_kind kind, yaml_mark_t mark, pac_yaml_node **out)
{
    if (b->doc->nodes >= MAX_NODES)
        return fail_at(b->doc, mark, "more than %d values", MAX_NODES);
    void *p;
    PAC_TRY(pac_arena_get(b->doc->arena, sizeof(pac_yaml_node), &p));
    pac_yaml_node *n = p;
    *n = (pac_yaml_node){.doc = b->doc, .kind = kind, .line = (int64_t)mark.line + 1, .key_line = b->key_line, .key = b->key};
    b->key = NULL;
    b->doc->nodes++;
    if (b->depth == 0) {
        b->doc->root = n;
    } else {
        pac_yaml_node *parent = b->open[b->depth - 1];
        if (parent->last == NULL)
            parent->first = n;
        else
            parent->last->next = n;
        parent->last = n;
        parent->count++;
    }
    *out = n;
    return PAC_OK;
}

static bool key_is_due(const builder *b)
{
    return b->depth > 0 && b->open[b->depth - 1]->kind == PAC_YAML_MAP && b->key == NULL;
}

static pac_err on_scalar(builder *b, const yaml_event_t *e)
{
    const char *text = "";
    PAC_TRY(copy_scalar(b->doc, e, &text));
    if (key_is_due(b)) {
        b->key = text;
        b->key_line = (int64_t)e->start_mark.line + 1;
        return PAC_OK;
    }
    pac_yaml_node *n = NULL;
    PAC_TRY(new_node(b, PAC_YAML_SCALAR, e->start_mark, &n));
    n->text = text;
    return PAC_OK;
}

static pac_err on_open(builder *b, const yaml_event_t *e, pac_yaml_kind kind)
{
    if (key_is_due(b))
        return fail_at(b->doc, e->start_mark, "a key must be a word, not a list or a map");
    if (b->depth == MAX_DEPTH)
        return fail_at(b->doc, e->start_mark, "nested more than %d levels deep", MAX_DEPTH);
    pac_yaml_node *n = NULL;
    PAC_TRY(new_node(b, kind, e->start_mark, &n));
    b->open[b->depth++] = n;
    return PAC_OK;
}

/* By key, then by place, so that the later of two equal keys comes second. */
static int by_key(const void *a, const void *b)
{
    const pac_yaml_node *x = *(pac_yaml_node *const *)a, *y = *(pac_yaml_node *const *)b;
    int order = strcmp(x->key, y->key);
    return order != 0 ? order : (x->line > y->line) - (x->line < y->line);
}

static pac_err on_close(builder *b)
{
    pac_yaml_node *n = b->open[--b->depth];
    void *p;
    size_t bytes = (size_t)n->count * sizeof(pac_yaml_node *);
    PAC_TRY(pac_arena_get(b->doc->arena, bytes, &p));
    n->items = p;
    int64_t i = 0;
    for (pac_yaml_node *child = n->first; child != NULL; child = child->next)
        n->items[i++] = child;
    if (n->kind != PAC_YAML_MAP)
        return PAC_OK;
    PAC_TRY(pac_arena_get(b->doc->arena, bytes, &p));
    n->sorted = p;
    if (n->count == 0)
        return PAC_OK;
    memcpy(n->sorted, n->items, bytes);
    qsort(n->sorted, (size_t)n->count, sizeof n->sorted[0], by_key);
    for (i = 1; i < n->count; i++)
        if (strcmp(n->sorted[i]->key, n->sorted[i - 1]->key) == 0)
            return pac_yaml_fail(n->sorted[i], "key '%.80s' is given twice, first in line %lld", n->sorted[i]->key,
                                 (long long)n->sorted[i - 1]->line);
    return PAC_OK;
}

static bool is_tagged(const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return e->data.scalar.anchor != NULL || e->data.scalar.tag != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return e->data.sequence_start.anchor != NULL || e->data.sequence_start.tag != NULL;
    case YAML_MAPPING_START_EVENT:
        return e->data.mapping_start.anchor != NULL || e->data.mapping_start.tag != NULL;
    default:
        return e->type == YAML_ALIAS_EVENT;
    }
}

static pac_err on_event(builder *b, const yaml_event_t *e)
{
    if (is_tagged(e))
        return fail_at(b->doc, e->start_mark, "anchors (&), aliases (*) and tags (!) are not allowed: write the value out");
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->doc->root != NULL)
            return fail_at(b->doc, e->start_mark, "a second document; only one is allowed");
        return PAC_OK;
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, e, PAC_YAML_LIST);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, e, PAC_YAML_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(b);
    case YAML_STREAM_END_EVENT:
        b->done = true;
        return PAC_OK;
    default:
        return PAC_OK;
    }
}

static pac_err build(pac_yaml *doc, const char *text, size_t bytes)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return pac_fail(PAC_ENOMEM, "%s: no memory for the YAML parser", doc->name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    builder b = {.doc = doc};
    pac_err err = PAC_OK;
    while (err == PAC_OK && !b.done) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            yaml_mark_t mark = parser.problem_mark;
            err = parser.error == YAML_MEMORY_ERROR ? pac_fail(PAC_ENOMEM, "%s: no memory to parse it", doc->name)
                                                    : fail_at(doc, mark, "not YAML: %s", parser.problem ? parser.problem : "?");
            break;
        }
        err = on_event(&b, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    if (err == PAC_OK && doc->root == NULL)
        err = pac_fail(PAC_ECONFIG, "%s: empty", doc->name);
    return err;
}

static pac_err parse(const char *name, const char *text, size_t bytes, pac_yaml **out)
{
    PAC_CHECK(bytes <= MAX_BYTES, PAC_ECONFIG, "%s: larger than %d bytes", name, MAX_BYTES);
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_yaml), &p));
    pac_yaml *doc = p;
    pac_err err;
    doc->has_lines = strncmp(name, "--", 2) != 0;
    PAC_GO(pac_mem_strdup(name, &doc->name));
    PAC_GO(pac_arena_new(PAC_MEM_OTHER, &doc->arena));
    PAC_GO(build(doc, text, bytes));
    *out = doc;
    return PAC_OK;
out:
    pac_yaml_close(&doc);
    return err;
}

pac_err pac_yaml_parse(const char *name, const char *text, pac_yaml **out)
{
    return parse(name, text, strlen(text), out);
}

pac_err pac_yaml_open(const char *path, pac_yaml **out)
{
    char *text;
    size_t bytes;
    PAC_TRY(pac_file_load(path, MAX_BYTES, &text, &bytes));
    pac_err err = parse(path, text, bytes, out);
    pac_mem_free(text);
    return err;
}

void pac_yaml_close(pac_yaml **y)
{
    if (y == NULL || *y == NULL)
        return;
    pac_arena_free(&(*y)->arena);
    pac_mem_free((*y)->name);
    pac_mem_free(*y);
    *y = NULL;
}

const pac_yaml_node *pac_yaml_root(const pac_yaml *y)
{
    return y->root;
}

pac_yaml_kind pac_yaml_kind_of(const pac_yaml_node *n)
{
    return n->kind;
}

int64_t pac_yaml_count(const pac_yaml_node *n)
{
    return n->count;
}

const pac_yaml_node *pac_yaml_item(const pac_yaml_node *n, int64_t i)
{
    return i >= 0 && i < n->count ? n->items[i] : NULL;
}

const char *pac_yaml_key(const pac_yaml_node *map, int64_t i)
{
    return i >= 0 && i < map->count ? map->items[i]->key : NULL;
}

static int key_against_node(const void *key, const void *node)
{
    return strcmp(key, (*(pac_yaml_node *const *)node)->key);
}

const pac_yaml_node *pac_yaml_get(const pac_yaml_node *map, const char *key)
{
    if (map->kind != PAC_YAML_MAP || map->count == 0)
        return NULL;
    pac_yaml_node **hit = bsearch(key, map->sorted, (size_t)map->count, sizeof map->sorted[0], key_against_node);
    return hit != NULL ? *hit : NULL;
}

int64_t pac_yaml_line(const pac_yaml_node *n)
{
    return n->line;
}

const char *pac_yaml_text(const pac_yaml_node *scalar)
{
    return scalar->text;
}
