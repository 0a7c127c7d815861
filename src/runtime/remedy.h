/* What would make a plan fit without other hardware: words of configuration that are tried; and the text of a refusal. */
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

/**
 * "    --set 'system.memory=[1.5GiB,...]'": the budgets of all devices, by rank, as the configuration takes them; behind
 * "--set WORD" where one is needed too (NULL: none).
 */
void refusal_say_budgets(const pac_profile *p, const double *budget, const char *word, refusal *w);

/** Does this job fit these devices? Both are changed copies of those that did not. Not collective. */
typedef pac_err (*remedy_test)(void *with, const pac_job *job, pac_profile *p, bool *fits);

/* What words are for. */
enum {
    REMEDY_MEMORY = 1,
    REMEDY_DISKS = 2, /* for disks: less in the cache, or none */
    REMEDY_CACHE = 4  /* for disks, and there is a cache */
};

/**
 * Every word of configuration for that which needs no hardware and with which `test` says that the job fits, "--set WORD" after
 * `before` each; those that the configuration cannot take are not tried. A profile that follows from descriptions is made again
 * for what changes times or activations. Not collective.
 */
pac_err remedy_words(const pac_job *job, pac_profile *p, int what, remedy_test test, void *with, const char *before,
                     refusal *to);

/** The first of these words, NULL: none. */
pac_err remedy_first(const pac_job *job, pac_profile *p, int what, remedy_test test, void *with, const char **word);

#endif
