/* Reading fixtures and measuring distances: shared by the golden tests. Any error ends the test. */
#ifndef PAC_TESTS_GOLDEN_H
#define PAC_TESTS_GOLDEN_H

#include "pac/model.h"
#include "pac/safetensors.h"
#include "pac/tune.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Success, or the test fails with the library's message. */
#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

extern const char *const golden_models[]; /* NULL-terminated */

/** "<source root>/tests/golden/fixtures/<model>[/<file>]", in a buffer that the next call but three replaces. */
const char *golden_path(const char *model, const char *file);

pac_st *golden_open(const char *model, const char *file);
pac_tensor golden_tensor(const pac_st *f, const char *name);
const float *golden_f32(const pac_st *f, const char *name, int64_t n);
/** The batch of a fixture; arrays are views of `f`. */
pac_batch golden_batch(const pac_st *f);

/** ||a - b|| / ||b|| */
double golden_distance(const float *a, const float *b, int64_t n);
/** Fails, naming `what`, unless golden_distance(a, b) <= tolerance. */
void golden_near(const char *what, const float *a, const float *b, int64_t n, double tolerance);

/** The backbone's rows for one batch: everything a side network may read, in `keep`. */
void golden_rows(const pac_model_desc *d, const pac_model *m, const pac_batch *b, pac_acts *acts, float **final_enc,
                 pac_arena *keep, pac_arena *work);

/** Mean token loss of logits [T, V] (destroyed: becomes its gradient). */
double golden_lm_loss(const pac_backend *be, float *logits, const pac_batch *b, int64_t V, pac_arena *keep);

/**
 * What main() was given, [--device [WORD]]: the device is tested and nothing else, and what takes longest (training, slices)
 * only on fixtures whose name contains WORD. Returns 0 to go on; 77, with the reason printed: there is none.
 */
int golden_arguments(int argc, char **argv);
bool golden_chosen(const char *fixture);

/* Backends to test, and how many; the last two are ref and the fastest, before them those with memory of their own. */
enum { GOLDEN_BACKENDS = 4 };
int golden_backends(const pac_backend *out[GOLDEN_BACKENDS]);

/** n floats of the backend as the host may read them: themselves, or a copy that lives until golden_forget(). */
const float *golden_read(const pac_backend *be, const float *x, int64_t n);
void golden_forget(void);

#endif
