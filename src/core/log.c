/* Log: formats a line and hands it to the sink that src/cli installed. */
#include "pac/log.h"

#include <stdarg.h>
#include <stdio.h>

static struct {
    pac_log_sink sink;
    void *user;
    pac_log_level max_level;
} state;

void pac_log_set_sink(pac_log_sink sink, void *user, pac_log_level max_level)
{
    state.sink = sink;
    state.user = user;
    state.max_level = max_level;
}

void pac_log(pac_log_level level, const char *fmt, ...)
{
    if (state.sink == NULL || level > state.max_level)
        return;
    char line[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    state.sink(state.user, level, line);
}
