/* What would make a plan fit without other hardware: single words of configuration that are tried; and the text of a refusal.
 */
#ifndef PAC_RUNTIME_REMEDY_H
#define PAC_RUNTIME_REMEDY_H

#include "pac/runtime.h"

enum { REFUSAL_TEXT = 1900 }; /* less than a message has room for */

/* Lines of text; what is too much is cut, and ends with "...". */
typedef struct refusal {
    char text[REFUSAL_TEXT];
    size_t n;
} refusal;

__attribute__((format(printf, 2, 3))) void refusal_say(refusal *w, const char *format, ...);

/** "orin-0 (200.0 MiB) lacks 12.3 MiB, ...": bytes by device that are missing, rounded up to a tenth of a MiB. */
void refusal_say_missing(const pac_profile *p, const double *missing, refusal *w);

/** "    --set 'system.memory=[1.5GiB,...]'": the budgets of all devices, by rank, as the configuration takes them. */
void refusal_say_budgets(const pac_profile *p, const double *budget, refusal *w);

/** Does this job fit these devices? Both are changed copies of those that did not. Not collective. */
typedef pac_err (*remedy_test)(void *with, const pac_job *job, pac_profile *p, bool *fits);

/**
 * Every word of configuration that needs no hardware and with which `test` says that the job fits, a line each: cache=none,
 * model.stream=true, model.dtype=bf16, cache.dtype=bf16; those that the configuration cannot take are not tried. A profile that
 * follows from descriptions is made again for the changed model. Not collective.
 */
pac_err remedy_words(const pac_job *job, pac_profile *p, remedy_test test, void *with, refusal *to);

#endif
