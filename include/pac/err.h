/*
 * Errors: a code, one message, no printing.
 *
 * Every fallible function returns pac_err and changes its out-parameters only on success. The failing function records one
 * message (what, where, what to do) in a thread-local buffer; src/cli prints it. Codes map to the exit codes of the manual.
 */
#ifndef PAC_ERR_H
#define PAC_ERR_H

#include <stddef.h>

typedef enum pac_err {
    PAC_OK = 0,
    PAC_EUSAGE,    /* command line                                            exit  2 */
    PAC_ECONFIG,   /* configuration, plan or profile file                     exit  2 */
    PAC_ENOTBUILT, /* a documented feature that this version does not have    exit  2 */
    PAC_EDATA,     /* data or model file is wrong                             exit  3 */
    PAC_EIO,       /* a file cannot be read or written                        exit  3 */
    PAC_ENOMEM,    /* the allocator failed, or a memory budget is too small   exit  4 */
    PAC_ENOSPACE,  /* disk space                                              exit  4 */
    PAC_ENUMERIC,  /* loss is not finite                                      exit  5 */
    PAC_ESHAPE,    /* sizes do not match: a fault of the caller               exit 70 */
    PAC_EINVAL,    /* an argument is out of range: a fault of the caller      exit 70 */
    PAC_EINTERNAL, /* our own bug                                             exit 70 */
    PAC_EPEER,     /* a peer was lost or a wait passed its deadline           exit 75 */
} pac_err;

/** Record a formatted message (printf) for `code` and return `code`. The message replaces the previous one. */
pac_err pac_fail(pac_err code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Put "prefix: " in front of the recorded message, to add the place that only the caller knows. Returns `code`. */
pac_err pac_fail_context(pac_err code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** The last recorded message of this thread, "" if none. Valid until the next pac_fail() of this thread. */
const char *pac_err_message(void);

/** Short name of a code, e.g. "data". */
const char *pac_err_name(pac_err code);

/** Exit status of the program for a code: 0, 2, 3, 4, 5, 70 or 75. */
int pac_err_exit_code(pac_err code);

/* Check a fault of the world (always on): PAC_CHECK(n > 0, PAC_EDATA, "%s:%ld: no rows", path, line). */
#define PAC_CHECK(cond, code, ...)               \
    do {                                         \
        if (!(cond))                             \
            return pac_fail((code), __VA_ARGS__); \
    } while (0)

/* Return early on error. Use only where nothing is owned yet; else PAC_GO(). */
#define PAC_TRY(expr)                 \
    do {                              \
        pac_err pac_try_ = (expr);    \
        if (pac_try_ != PAC_OK)       \
            return pac_try_;          \
    } while (0)

/* Store the code in the variable `err` and jump to the label `out` on error. */
#define PAC_GO(expr)          \
    do {                      \
        err = (expr);         \
        if (err != PAC_OK)    \
            goto out;         \
    } while (0)

#endif
