/* Sums and broadcasts of rows over ranks, wherever the backend has them (pac/space.h). */
#ifndef PAC_RUNTIME_TRANSFER_H
#define PAC_RUNTIME_TRANSFER_H

#include "pac/parallel.h"
#include "pac/runtime.h"

/** pac_sum_f32() of n floats in the space of the job's backend. Collective on c. */
pac_err ranks_sum(pac_comm *c, const pac_job *job, float *x, int64_t n);
/** pac_bcast() of n floats in the space of the job's backend. Collective on c. */
pac_err ranks_bcast(pac_comm *c, const pac_job *job, float *x, int64_t n, int64_t root);

#endif
