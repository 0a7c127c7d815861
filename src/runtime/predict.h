/* State of the predict command: the evaluator with one row at a time, and the logits that were asked for. */
#ifndef PAC_RUNTIME_PREDICT_H
#define PAC_RUNTIME_PREDICT_H

#include "evaluate.h"

enum { PREDICT_MAX_CLASSES = 64 };

typedef struct kept_logits {
    int64_t T, C;
    float *data; /* [T, C]; owned */
    float loss;  /* mean over counted labels, NaN where the row has none */
} kept_logits;

typedef struct predictor {
    const pac_job *job;
    const pac_predict_opts *opts;
    evaluator e;
    decoded out; /* one row */
    void *kept;  /* kept_logits[nkept], rank 0 */
    int64_t nkept, capacity;
} predictor;

/** Answer all rows of a data set that every rank has. Collective. */
pac_err predict_rows(predictor *p, const pac_dataset *data);
/** Answer typed lines until the reader ends. Collective. */
pac_err predict_lines(predictor *p);
/** Keep a row's logits for the file (rank 0); labels [T] give its loss (NULL: none). Collective. */
pac_err predict_keep(predictor *p, const int32_t *labels, const float *logits, int64_t T, int64_t C);

#endif
