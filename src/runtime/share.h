/* Data sets from rank 0 to every rank. */
#ifndef PAC_RUNTIME_SHARE_H
#define PAC_RUNTIME_SHARE_H

#include "pac/batch.h"

/** Rank 0's data set becomes everybody's (owned by each; freed with pac_dataset_free()). Collective. */
pac_err share_dataset(pac_dataset *d);

#endif
