/* What the files of packed matrices share beside their layouts. */
#ifndef PAC_TENSOR_PACKED_PARTS_H
#define PAC_TENSOR_PACKED_PARTS_H

#include "packed.h"
#include "pac/pool.h"

/* to = bf16(alpha from) */
void packed_halve(uint16_t *to, const float *from, int64_t n, float alpha);

/* The products by widening panels of w for be->gemm, from either layout. */
void packed_panel_fwd(const pac_backend *be, float *y, const float *x, const pac_packed *p, int64_t N, float alpha);
void packed_panel_bwd(const pac_backend *be, float *dx, bool accumulate, const float *dy, const pac_packed *p, int64_t N,
                      float alpha);

#endif
