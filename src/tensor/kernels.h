/*
 * What the backends of this folder share: the list of operations, from which prototypes and tables are made, and scratch
 * memory.
 *
 * A backend `x` defines pac_x_<op> for every op of the list and makes its table with PAC_TABLE(x, "name"). The cpu_*.c files
 * are compiled once per instruction set, each time under another backend name (PAC_ISA), see meson.build.
 */
#ifndef PAC_KERNELS_H
#define PAC_KERNELS_H

#include "pac/ops.h"

/* clang-format off */
#define PAC_EACH_OP(X, b) \
    X(b, gemm) X(b, bias_fwd) X(b, bias_bwd) X(b, rmsnorm_fwd) X(b, rmsnorm_bwd) X(b, layernorm_fwd) X(b, layernorm_bwd) \
    X(b, act_fwd) X(b, act_bwd) X(b, glu_fwd) X(b, glu_bwd) X(b, attn_fwd) X(b, attn_bwd) \
    X(b, embed_fwd) X(b, embed_bwd) X(b, add) X(b, axpy) X(b, gate_fwd) X(b, gate_bwd) \
    X(b, xent) X(b, argmax) X(b, mse) X(b, dropout) X(b, mean_rows_fwd) X(b, mean_rows_bwd) X(b, pair_fwd) X(b, pair_bwd) \
    X(b, zero) X(b, scale) X(b, copy) X(b, add_squares) X(b, sgd) X(b, adamw) X(b, sumsq)
/* clang-format on */

/* The prototype of pac_<backend>_<op>: the type that the table's pointer points to. */
#define PAC_PROTOTYPE(b, op) extern __typeof__(*((pac_backend *)0)->op) pac_##b##_##op;
#define PAC_PROTOTYPES(b)    PAC_EACH_OP(PAC_PROTOTYPE, b) extern const pac_backend pac_##b##_backend;

#define PAC_ENTRY(b, op)    .op = pac_##b##_##op,
#define PAC_TABLE(b, label) const pac_backend pac_##b##_backend = {.name = (label), PAC_EACH_OP(PAC_ENTRY, b)}

/**
 * Scratch of the calling thread, at least `bytes` long, aligned to 64, contents undefined; valid until the next call. It only
 * grows and is given back by pac_backend_release(). NULL: out of memory; a kernel, which cannot fail, then fills its outputs
 * with NaN, and the loss check of the caller stops the run.
 */
void *pac_scratch(size_t bytes);
/**
 * What a thread keeps may not depend on who did a part: places that grew within the parts of a run are made as large on all
 * threads of the pool when it ends, so that a step that was done once allocates nothing again. Did any grow? (Asked once.)
 */
bool pac_scratch_grew(void);
/** A part for each thread of the pool. */
void pac_scratch_level(void *user, int64_t lo, int64_t hi);
/** Another place with the same rules, for what calls kernels meanwhile: a widened or transposed part of a packed matrix. */
void *pac_scratch_outer(size_t bytes);

enum { PAC_PANEL_FLOATS = 400000 }; /* a multiple of 16 */
/**
 * Place of the calling thread for a copied operand of a product, PAC_PANEL_FLOATS, contents undefined. As the buffers of
 * OpenBLAS it depends on no model and is not in the ledger: 1.6 MB of each thread, resident as far as it was used, given back
 * by pac_backend_release(). NULL: out of memory.
 */
float *pac_panels(void);

/** y[0..rows, 0..columns) = NaN, for the case above; ld is the row stride. */
void pac_fill_nan(float *y, int64_t ld, int64_t rows, int64_t columns);

#endif
