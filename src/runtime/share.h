/* What ranks have in common. */
#ifndef PAC_RUNTIME_SHARE_H
#define PAC_RUNTIME_SHARE_H

#include "pac/batch.h"
#include "pac/runtime.h"

/** Rank 0's data set becomes everybody's (owned by each; freed with pac_dataset_free()). Collective. */
pac_err share_dataset(pac_dataset *d);

/**
 * A backbone in bf16 is packed once on a node of several ranks (j->desc.shelf, freed with the job); where that is not possible,
 * with a warning, once in each. Collective on the node.
 */
pac_err share_weights(pac_job *j);

#endif
