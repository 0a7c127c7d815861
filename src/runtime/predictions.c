/* Answers as JSON: {"row", "text", "target"} or {"row", "label", "scores", "gold"}, a line for each row that was evaluated. */
#include "predictions.h"
#include "trainer.h"
#include "pac/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t best_class(const double *scores, int64_t C)
{
    int64_t best = 0;
    for (int64_t c = 1; c < C; c++)
        best = scores[c] > scores[best] ? c : best;
    return best;
}

json_t *class_json(const pac_job *job, const double *scores)
{
    const char *const *words = pac_task_label_words(job->task);
    int64_t C = job->tune.classes, best = best_class(scores, C);
    char number[32];
    json_t *list = json_array();
    for (int64_t c = 0; c < C; c++)
        json_array_append_new(list, real_json(scores[c]));
    snprintf(number, sizeof number, "%g", C == 1 ? scores[0] : (double)best);
    return json_pack("{s:s, s:o}", "label", words != NULL && C > 1 ? words[best] : number, "scores", list);
}

static json_t *row_json(const pac_job *job, const predictions *r, int64_t row)
{
    const char *gold = job->gold.target[row];
    json_t *rest, *line = json_pack("{s:I}", "row", (json_int_t)row);
    if (r->C > 0) {
        rest = class_json(job, r->scores + row * r->C);
        json_object_set_new(rest, "gold", json_string(gold));
    } else {
        rest = json_pack("{s:s, s:s}", "text", r->text[row], "target", gold);
    }
    if (line == NULL || rest == NULL || json_object_update(line, rest) != 0) {
        json_decref(line);
        line = NULL;
    }
    json_decref(rest);
    return line;
}

/* Lines that grow. */
typedef struct page {
    void *text;
    int64_t length, capacity;
} page;

static pac_err add_line(page *p, json_t *line)
{
    char *text = line != NULL ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    pac_err err = text != NULL ? PAC_OK : pac_fail(PAC_ENOMEM, "no memory for a prediction");
    int64_t n = text != NULL ? (int64_t)strlen(text) : 0;
    if (err == PAC_OK)
        err = pac_mem_grow(PAC_MEM_WORK, &p->text, &p->capacity, p->length + n + 1, 1);
    if (err == PAC_OK) {
        memcpy((char *)p->text + p->length, text, (size_t)n);
        ((char *)p->text)[p->length + n] = '\n';
        p->length += n + 1;
    }
    free(text);
    return err;
}

pac_err predictions_write(const pac_job *job, const predictions *r, const char *path)
{
    page p = {0};
    pac_err err = PAC_OK;
    for (int64_t row = 0; row < job->eval.rows && err == PAC_OK; row++) {
        json_t *line = row_json(job, r, row);
        err = add_line(&p, line);
        json_decref(line);
    }
    if (err == PAC_OK)
        err = pac_file_replace(path, &(pac_piece){p.text, (size_t)p.length}, 1);
    pac_mem_free(p.text);
    return err;
}
