/*
 * tokens: ids as they are, for models whose tokenizer lives elsewhere. JSON lines {"input_ids", "labels"}.
 */
#include "task.h"

static pac_err tokens_read(const pac_task *t, pac_lines *in, const pac_data_opts *o, const pac_row_sink *to)
{
    (void)t;
    pac_err err = PAC_OK;
    json_t *object = NULL;
    int32_t *ids = NULL, *labels = NULL;
    int64_t ids_capacity = 0, labels_capacity = 0;
    for (;;) {
        pac_example row = {0};
        PAC_GO(pac_jsonl_next(in, &object));
        if (object == NULL)
            break;
        PAC_GO(pac_jsonl_ids(in, object, "input_ids", o->vocab, &ids, &row.nids, &ids_capacity));
        PAC_GO(pac_jsonl_ids(in, object, "labels", o->vocab, &labels, &row.nlabels, &labels_capacity));
        row.ids = ids;
        row.labels = labels;
        PAC_GO(to->row(to->user, &row));
        json_decref(object);
        object = NULL;
    }
out:
    json_decref(object);
    pac_mem_free(ids);
    pac_mem_free(labels);
    return err;
}

const pac_task pac_task_tokens = {.name = "tokens", .token_rows = true, .read = tokens_read, .metrics = pac_metrics_exact};
