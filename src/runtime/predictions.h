/* What a model answered: to the rows of an evaluation, as JSON lines; class scores as JSON. */
#ifndef PAC_RUNTIME_PREDICTIONS_H
#define PAC_RUNTIME_PREDICTIONS_H

#include "evaluate.h"

#include <jansson.h>

typedef struct predictions {
    double loss;    /* summed over counted rows */
    int64_t C;      /* classes; 0: text */
    double *scores; /* [rows, C], on every rank */
    char **text;    /* [rows], rank 0 */
} predictions;

/** Replace the file: a line for each row of job->eval (docs/formats.md). Not collective. Errors: PAC_EIO, PAC_ENOSPACE. */
pac_err predictions_write(const pac_job *job, const predictions *r, const char *path);

/** The class with the highest score; of equals the first. */
int64_t best_class(const double *scores, int64_t C);
/** {"label", "scores"}: the class's word, or the score as text. NULL: out of memory. */
json_t *class_json(const pac_job *job, const double *scores);

#endif
