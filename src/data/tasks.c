/*
 * The table of tasks, and what is the same for all.
 */
#include "task.h"

#include <stdio.h>
#include <string.h>

static const pac_task *const tasks[] = {&pac_task_mrpc, &pac_task_stsb,    &pac_task_sst2,
                                        &pac_task_qnli, &pac_task_seq2seq, &pac_task_tokens};

enum { TASKS = sizeof tasks / sizeof tasks[0] };

pac_err pac_task_find(const char *name, const pac_task **out)
{
    char known[128] = "";
    for (int i = 0; i < TASKS; i++) {
        if (strcmp(name, tasks[i]->name) == 0) {
            *out = tasks[i];
            return PAC_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, " %s", tasks[i]->name);
    }
    return pac_fail(PAC_ECONFIG, "unknown task \"%s\"; known are:%s", name, known);
}

int64_t pac_task_classes(const pac_task *t)
{
    return t->classes;
}

const char *pac_task_name(const pac_task *t)
{
    return t->name;
}

bool pac_task_needs_tokenizer(const pac_task *t)
{
    return !t->token_rows;
}

const char *const *pac_task_label_words(const pac_task *t)
{
    return t->words;
}

pac_err pac_ids_text(const int32_t *ids, int64_t n, char **out)
{
    enum { LONGEST = 12 }; /* "-2147483648 " */
    void *block;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n + 1, LONGEST, &block));
    char *s = block;
    for (int64_t i = 0, used = 0; i < n; i++)
        used += snprintf(s + used, LONGEST + 1, "%s%d", i > 0 ? " " : "", (int)ids[i]);
    *out = s;
    return PAC_OK;
}

pac_err pac_task_output_text(const pac_task *t, const pac_tokenizer *tokenizer, int32_t eos_id, const int32_t *ids, int64_t n,
                             char **out)
{
    int64_t used = 0;
    while (used < n && ids[used] != eos_id)
        used++;
    if (t->token_rows)
        return pac_ids_text(ids, used, out);
    PAC_CHECK(tokenizer != NULL, PAC_EINVAL, "task %s needs a tokenizer", t->name);
    return pac_tokenizer_decode(tokenizer, ids, used, out);
}

pac_err pac_task_metrics(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                         pac_metrics *out)
{
    PAC_CHECK(gold->rows > 0, PAC_EINVAL, "metrics of no rows");
    PAC_CHECK((text == NULL) != (score == NULL), PAC_EINVAL, "metrics need either texts or scores");
    PAC_CHECK(score == NULL || t->classes > 0, PAC_EINVAL, "task %s has no classes: scores mean nothing", t->name);
    pac_metrics m = {0};
    PAC_TRY(t->metrics(t, gold, text, score, &m));
    *out = m;
    return PAC_OK;
}
