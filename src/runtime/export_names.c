/* What transformers calls the tensors of each family's classes. A new family is a row. */
#include "export.h"

#include <stdio.h>
#include <string.h>

static const hf_names table[] = {
    {"t5",
     "",
     {[PAC_HEAD_LM] = {"T5ForConditionalGeneration", "", "SEQ_2_SEQ_LM", {NULL}, {NULL}},
      [PAC_HEAD_CLASSIFICATION] = {"T5ForSequenceClassification",
                                   "transformer.",
                                   "SEQ_CLS",
                                   {"classification_head.dense", "classification_head.out_proj"},
                                   {"classification_head"}}}},
    {"bart",
     "model.",
     {[PAC_HEAD_LM] = {"BartForConditionalGeneration", "model.", "SEQ_2_SEQ_LM", {NULL}, {NULL}},
      [PAC_HEAD_CLASSIFICATION] = {"BartForSequenceClassification",
                                   "model.",
                                   "SEQ_CLS",
                                   {"classification_head.dense", "classification_head.out_proj"},
                                   {"classification_head"}}}},
    {"bert",
     "",
     {[PAC_HEAD_CLASSIFICATION] = {"BertForSequenceClassification",
                                   "bert.",
                                   "SEQ_CLS",
                                   {"bert.pooler.dense", "classifier"},
                                   {"pooler", "classifier"}}}},
    {"distilbert",
     "distilbert.",
     {[PAC_HEAD_CLASSIFICATION] = {"DistilBertForSequenceClassification",
                                   "distilbert.",
                                   "SEQ_CLS",
                                   {"pre_classifier", "classifier"},
                                   {"pre_classifier", "classifier"}}}},
};

pac_err export_names(const char *model_type, const hf_names **out)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].model_type, model_type) == 0) {
            *out = &table[i];
            return PAC_OK;
        }
    return pac_fail(PAC_EDATA, "export: no names known for models of type %.80s", model_type);
}

/* The rest of `text` behind `start`; NULL: it does not begin so. */
static const char *behind(const char *text, const char *start)
{
    size_t n = strlen(start);
    return strncmp(text, start, n) == 0 ? text + n : NULL;
}

void export_name(const hf_names *n, pac_head head, const char *ours, char *out)
{
    static const char *const parts[] = {"head.dense", "head.out"};
    const hf_form *f = &n->form[head];
    const char *rest;
    for (int i = 0; i < 2; i++)
        if (f->head[i] != NULL && (rest = behind(ours, parts[i])) != NULL) {
            snprintf(out, EXPORT_NAME, "%s%s", f->head[i], rest);
            return;
        }
    if ((rest = behind(ours, n->own_prefix)) != NULL)
        snprintf(out, EXPORT_NAME, "%s%s", f->prefix, rest);
    else /* outside the backbone: lm_head, final_logits_bias */
        snprintf(out, EXPORT_NAME, "%s", ours);
}
