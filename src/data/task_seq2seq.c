/*
 * seq2seq: any text to any text. JSON lines {"text", "target"}, or tab-separated rows with these two columns; a file that
 * begins with
 * '{' is JSON lines (no header row of ours does).
 */
#include "task.h"

static pac_err read_json(pac_lines *in, const pac_row_sink *to)
{
    pac_err err = PAC_OK;
    json_t *object = NULL;
    for (;;) {
        pac_example row = {0};
        PAC_GO(pac_jsonl_next(in, &object));
        if (object == NULL)
            break;
        PAC_GO(pac_jsonl_text(in, object, "text", &row.text));
        PAC_GO(pac_jsonl_text(in, object, "target", &row.target));
        PAC_GO(to->row(to->user, &row));
        json_decref(object);
        object = NULL;
    }
out:
    json_decref(object);
    return err;
}

static pac_err read_tsv(pac_lines *in, const pac_row_sink *to)
{
    static const char *const names[] = {"text", "target"};
    pac_tsv tsv;
    PAC_TRY(pac_tsv_open(in, names, 2, &tsv));
    for (;;) {
        const char *field[2];
        PAC_TRY(pac_tsv_next(&tsv, field));
        if (field[0] == NULL)
            return PAC_OK;
        pac_example row = {.text = field[0], .target = field[1]};
        PAC_TRY(to->row(to->user, &row));
    }
}

static pac_err seq2seq_read(const pac_task *t, pac_lines *in, const pac_data_opts *o, const pac_row_sink *to)
{
    (void)t, (void)o;
    return in->data[in->pos] == '{' ? read_json(in, to) : read_tsv(in, to);
}

static pac_err seq2seq_prompt(const pac_task *t, const char *a, const char *b, pac_text *out)
{
    (void)t, (void)b;
    return pac_text_print(out, "%s", a);
}

const pac_task pac_task_seq2seq = {
    .name = "seq2seq", .read = seq2seq_read, .prompt = seq2seq_prompt, .metrics = pac_metrics_exact};
