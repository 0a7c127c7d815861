/* Errors: one thread-local message beside a code. Printing is the business of src/cli. */
#include "pac/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };

static _Thread_local char message[MESSAGE_BYTES];

static const struct {
    const char *name;
    int exit_code;
} table[] = {
    [PAC_OK] = {"ok", 0},
    [PAC_EUSAGE] = {"usage", 2},
    [PAC_ECONFIG] = {"configuration", 2},
    [PAC_ENOTBUILT] = {"not built yet", 2},
    [PAC_EDATA] = {"data", 3},
    [PAC_EIO] = {"input/output", 3},
    [PAC_ENOMEM] = {"memory", 4},
    [PAC_ENOSPACE] = {"disk space", 4},
    [PAC_ENUMERIC] = {"numerical", 5},
    [PAC_ESHAPE] = {"shape", 70},
    [PAC_EINVAL] = {"invalid argument", 70},
    [PAC_EINTERNAL] = {"internal", 70},
    [PAC_EPEER] = {"peer lost", 75},
};

pac_err pac_fail(pac_err code, const char *fmt, ...)
{
    char text[MESSAGE_BYTES]; /* the arguments may point into `message` */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    return code;
}

pac_err pac_fail_context(pac_err code, const char *fmt, ...)
{
    char prefix[MESSAGE_BYTES / 2];
    va_list args;
    va_start(args, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, args);
    va_end(args);
    return pac_fail(code, "%s: %s", prefix, message);
}

const char *pac_err_message(void)
{
    return message;
}

static size_t row_of(pac_err code)
{
    size_t n = sizeof table / sizeof table[0];
    return (size_t)code < n ? (size_t)code : (size_t)PAC_EINTERNAL;
}

const char *pac_err_name(pac_err code)
{
    return table[row_of(code)].name;
}

int pac_err_exit_code(pac_err code)
{
    return table[row_of(code)].exit_code;
}
