/*
 * MRPC, STS-B, SST-2 and QNLI: GLUE's tab-separated files, and T5's text-to-text form of them. Each task is a row of data; one
 * reader and one prompt serve all.
 *
 * Source: T5's preprocessors.glue() and stsb() (google-research/text-to-text-transfer-transformer).
 */
#include "task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct pac_glue {
    const char *column[2]; /* of the file; the second NULL for single texts */
    const char *key[2];    /* in the prompt */
    const char *gold;      /* column of the label or score */
    const char *value[2];  /* what that column holds for classes 0 and 1; NULL for scores */
} pac_glue;

static pac_err glue_prompt(const pac_task *t, const char *a, const char *b, pac_text *out)
{
    const pac_glue *g = t->glue;
    return b != NULL ? pac_text_print(out, "%s %s: %s %s: %s", t->name, g->key[0], a, g->key[1], b)
                     : pac_text_print(out, "%s %s: %s", t->name, g->key[0], a);
}

/* The target of a score: to the nearest 0.2, ties to even, in f32 as TensorFlow computes it (round(5x)/5, one decimal). */
static pac_err score_target(double score, pac_text *out)
{
    float rounded = nearbyintf((float)score * 5.0f) / 5.0f;
    return pac_text_print(out, "%.1f", (double)rounded);
}

static pac_err read_score(const pac_lines *in, const pac_glue *g, const char *field, double *out)
{
    char *end;
    double v = strtod(field, &end);
    if (end == field || *end != '\0' || field[strspn(field, "0123456789.eE+-")] != '\0' || !(v >= 0 && v <= 5))
        return pac_lines_fail(in, "\"%s\" is \"%.40s\"; a number from 0 to 5 is expected", g->gold, field);
    *out = v;
    return PAC_OK;
}

static pac_err read_class(const pac_lines *in, const pac_glue *g, const char *field, double *out)
{
    for (int c = 0; c < 2; c++) {
        if (strcmp(field, g->value[c]) == 0) {
            *out = c;
            return PAC_OK;
        }
    }
    return pac_lines_fail(in, "\"%s\" is \"%.40s\"; %s or %s is expected", g->gold, field, g->value[0], g->value[1]);
}

static pac_err glue_read(const pac_task *t, pac_lines *in, const pac_data_opts *o, const pac_row_sink *to)
{
    (void)o;
    const pac_glue *g = t->glue;
    pac_err err = PAC_OK;
    pac_text target = {0};
    const char *names[3] = {g->gold, g->column[0], g->column[1]}, *field[3] = {NULL};
    pac_tsv tsv;
    PAC_TRY(pac_tsv_open(in, names, t->pair ? 3 : 2, &tsv));
    for (;;) {
        pac_example row = {0};
        PAC_GO(pac_tsv_next(&tsv, field));
        if (field[0] == NULL)
            break;
        PAC_GO(t->words != NULL ? read_class(in, g, field[0], &row.label) : read_score(in, g, field[0], &row.label));
        row.text = field[1];
        row.second = field[2];
        if (t->words == NULL)
            PAC_GO(score_target(row.label, &target));
        row.target = t->words != NULL ? t->words[(int)row.label] : target.s;
        PAC_GO(to->row(to->user, &row));
    }
out:
    pac_text_done(&target);
    return err;
}

static const pac_glue mrpc = {{"#1 String", "#2 String"}, {"sentence1", "sentence2"}, "Quality", {"0", "1"}};
static const char *const mrpc_words[] = {"not_equivalent", "equivalent", NULL};
const pac_task pac_task_mrpc = {.name = "mrpc",
                                .classes = 2,
                                .words = mrpc_words,
                                .glue = &mrpc,
                                .split = PAC_SPLIT_HALVES,
                                .pair = true,
                                .read = glue_read,
                                .prompt = glue_prompt,
                                .metrics = pac_metrics_accuracy_f1};

static const pac_glue stsb = {{"sentence1", "sentence2"}, {"sentence1", "sentence2"}, "score", {NULL, NULL}};
const pac_task pac_task_stsb = {.name = "stsb",
                                .classes = 1,
                                .glue = &stsb,
                                .split = PAC_SPLIT_HALVES,
                                .pair = true,
                                .read = glue_read,
                                .prompt = glue_prompt,
                                .metrics = pac_metrics_correlation};

static const pac_glue sst2 = {{"sentence", NULL}, {"sentence", NULL}, "label", {"0", "1"}};
static const char *const sst2_words[] = {"negative", "positive", NULL};
const pac_task pac_task_sst2 = {.name = "sst2",
                                .classes = 2,
                                .words = sst2_words,
                                .glue = &sst2,
                                .split = PAC_SPLIT_HELD_OUT,
                                .read = glue_read,
                                .prompt = glue_prompt,
                                .metrics = pac_metrics_accuracy};

static const pac_glue qnli = {{"question", "sentence"}, {"question", "sentence"}, "label", {"entailment", "not_entailment"}};
static const char *const qnli_words[] = {"entailment", "not_entailment", NULL};
const pac_task pac_task_qnli = {.name = "qnli",
                                .classes = 2,
                                .words = qnli_words,
                                .glue = &qnli,
                                .split = PAC_SPLIT_HELD_OUT,
                                .pair = true,
                                .read = glue_read,
                                .prompt = glue_prompt,
                                .metrics = pac_metrics_accuracy};
