/*
 * SentencePiece behind extern "C": no exception and no C++ type crosses this header.
 */
#ifndef PAC_DATA_SPM_SHIM_H
#define PAC_DATA_SPM_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pac_spm pac_spm;

/* Receives a result while it lives; a value other than 0 is handed back to the caller of the shim. */
typedef int (*pac_spm_take)(void *user, const void *data, size_t count);

enum { PAC_SPM_OK = 0, PAC_SPM_FAILED = -1 }; /* failed: `why` says so */

int pac_spm_open(const void *model, size_t bytes, pac_spm **out, char *why, size_t why_bytes);
void pac_spm_close(pac_spm *p);
/* `take` gets int ids. */
int pac_spm_encode(const pac_spm *p, const char *text, size_t bytes, pac_spm_take take, void *user, char *why,
                   size_t why_bytes);
/* `take` gets chars. Control and unknown ids and ids outside the vocabulary are left out. */
int pac_spm_decode(const pac_spm *p, const int32_t *ids, size_t n, pac_spm_take take, void *user, char *why, size_t why_bytes);
int64_t pac_spm_size(const pac_spm *p);

/* spm_check.c: NULL, or what is wrong with a model file that SentencePiece would trust. */
const char *pac_spm_check(const void *model, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
