/*
 * Rows to predict on: a line typed by a person, or JSON lines. They become sequences as the rows of the task's files do.
 */
#include "task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One or two texts as a row. b NULL: one text. */
static pac_err add_texts(pac_data_builder *builder, const pac_task *t, const char *a, const char *b)
{
    PAC_CHECK(!t->token_rows, PAC_EDATA, "task %s takes ids, not text", t->name);
    PAC_CHECK(t->pair == (b != NULL), PAC_EDATA, "task %s takes %s", t->name,
              t->pair ? "two texts (separated by a tab; or \"text\" and \"text_pair\")"
                      : "one text (no tab, no \"text_pair\")");
    pac_example row = {.text = a, .second = b};
    return pac_data_builder_row(builder, &row);
}

static pac_err add_typed_text(pac_data_builder *builder, const pac_task *t, const char *line)
{
    pac_text copy = {0};
    PAC_TRY(pac_text_print(&copy, "%s", line));
    char *second = t->pair ? strchr(copy.s, '\t') : NULL;
    if (second != NULL)
        *second++ = '\0';
    pac_err err = add_texts(builder, t, copy.s, second);
    pac_text_done(&copy);
    return err;
}

static pac_err parse_ids(const char *line, int64_t vocab, int32_t *ids, int64_t *n)
{
    static const char blank[] = " \t\r\n";
    int64_t count = 0;
    for (const char *s = line + strspn(line, blank); *s != '\0'; s += strspn(s, blank)) {
        char *end;
        errno = 0;
        long long v = strtoll(s, &end, 10);
        PAC_CHECK(end != s && (*end == '\0' || strchr(blank, *end) != NULL) && errno == 0 && v >= 0 && v < vocab, PAC_EDATA,
                  "\"%.20s\" is no id; integers from 0 to %lld separated by spaces are expected", s, (long long)vocab - 1);
        ids[count++] = (int32_t)v;
        s = end;
    }
    PAC_CHECK(count > 0, PAC_EDATA, "an empty line; ids separated by spaces are expected");
    *n = count;
    return PAC_OK;
}

static pac_err add_typed_ids(pac_data_builder *builder, const pac_data_opts *o, const char *line)
{
    void *ids;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, (int64_t)strlen(line) / 2 + 1, sizeof(int32_t), &ids));
    pac_example row = {.ids = ids};
    pac_err err = parse_ids(line, o->vocab, ids, &row.nids);
    if (err == PAC_OK)
        err = pac_data_builder_row(builder, &row);
    pac_mem_free(ids);
    return err;
}

pac_err pac_data_from_line(const char *line, const pac_data_opts *o, pac_dataset *out)
{
    int64_t bytes = (int64_t)strlen(line), valid = pac_utf8_valid(line, bytes);
    PAC_CHECK(valid == bytes, PAC_EDATA, "byte %lld (0x%02x) of the line is not UTF-8", (long long)valid + 1,
              (unsigned)(unsigned char)line[valid]);
    pac_data_builder *builder;
    PAC_TRY(pac_data_builder_new(o, &builder));
    pac_err err = o->task->token_rows ? add_typed_ids(builder, o, line) : add_typed_text(builder, o->task, line);
    if (err == PAC_OK)
        pac_data_builder_take(builder, out, NULL);
    pac_data_builder_free(&builder);
    return err;
}

/* ---- JSON lines ---- */

typedef struct id_arrays {
    int32_t *ids, *labels;
    int64_t ids_capacity, labels_capacity;
} id_arrays;

static pac_err add_ids_object(pac_data_builder *builder, const pac_lines *in, const json_t *object, int64_t vocab, id_arrays *a)
{
    pac_example row = {0};
    if (json_object_get(object, "text") != NULL)
        return pac_lines_fail(in, "\"text\" beside \"input_ids\"; give one of them");
    PAC_TRY(pac_jsonl_ids(in, object, "input_ids", vocab, &a->ids, &row.nids, &a->ids_capacity));
    row.ids = a->ids;
    if (json_object_get(object, "labels") != NULL) {
        PAC_TRY(pac_jsonl_ids(in, object, "labels", vocab, &a->labels, &row.nlabels, &a->labels_capacity));
        row.labels = a->labels;
    }
    return pac_data_builder_row(builder, &row);
}

static pac_err add_text_object(pac_data_builder *builder, const pac_lines *in, const json_t *object, const pac_task *t)
{
    const char *a, *b = NULL;
    PAC_TRY(pac_jsonl_text(in, object, "text", &a));
    if (json_object_get(object, "text_pair") != NULL)
        PAC_TRY(pac_jsonl_text(in, object, "text_pair", &b));
    pac_err err = add_texts(builder, t, a, b);
    return err == PAC_OK ? PAC_OK : pac_fail_context(err, "%s:%lld", in->path, (long long)in->line);
}

static pac_err add_objects(pac_data_builder *builder, pac_lines *in, const pac_data_opts *o)
{
    pac_err err = PAC_OK;
    id_arrays arrays = {0};
    json_t *object = NULL;
    for (;;) {
        PAC_GO(pac_jsonl_next(in, &object));
        if (object == NULL)
            break;
        bool ids = o->task->token_rows || json_object_get(object, "input_ids") != NULL;
        PAC_GO(ids ? add_ids_object(builder, in, object, o->vocab, &arrays) : add_text_object(builder, in, object, o->task));
        json_decref(object);
        object = NULL;
    }
out:
    json_decref(object);
    pac_mem_free(arrays.ids);
    pac_mem_free(arrays.labels);
    return err;
}

pac_err pac_data_load_inputs(const char *path, const pac_data_opts *o, pac_dataset *out)
{
    pac_err err = PAC_OK;
    pac_lines in = {0};
    pac_data_builder *builder = NULL;
    PAC_GO(pac_data_builder_new(o, &builder));
    PAC_GO(pac_lines_open(path, &in));
    PAC_GO(add_objects(builder, &in, o));
    pac_data_builder_take(builder, out, NULL);
out:
    pac_lines_close(&in);
    pac_data_builder_free(&builder);
    return err;
}
