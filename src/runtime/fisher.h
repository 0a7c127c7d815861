/* Fisher information of the backbone's weights, by which a side network may be pruned (technique.init: fisher). */
#ifndef PAC_RUNTIME_FISHER_H
#define PAC_RUNTIME_FISHER_H

#include "pipeline.h"

/*
 * The diagonal of the empirical Fisher information: F_w = sum over samples of (d loss / d w)^2, the gradient of one sample at a
 * time (its loss is the mean over its rows that count), over at most FISHER_SAMPLES samples, spread evenly over the training
 * data.
 */
enum { FISHER_SAMPLES = 1024 };

typedef struct fisher fisher;

/**
 * One pass of full tuning, without dropout or steps, over the stages of the layout; a classification head has its initial
 * values. Memory: three times the weights of the slice until fisher_free(). Collective.
 */
pac_err fisher_new(const pac_job *job, const pac_layout *layout, fisher **out);
void fisher_free(fisher **f);
/** The slice of the backbone with F in the place of each weight. */
const pac_model *fisher_scores(const fisher *f);

#endif
