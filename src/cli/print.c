/* What people see: log lines on standard error, a progress line on a terminal, results on standard output. */
#include "cli.h"
#include "pac/clock.h"
#include "pac/log.h"
#include "pac/parallel.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
    bool quiet, terminal, line_open;
    double last;
    int fault; /* errno of the first failure of standard output */
} screen;

void print_clear_progress(void)
{
    if (screen.line_open)
        fprintf(stderr, "\r\033[K");
    screen.line_open = false;
}

static void log_sink(void *user, pac_log_level level, const char *line)
{
    (void)user;
    if (screen.quiet && level > PAC_LOG_WARN)
        return;
    print_clear_progress();
    fprintf(stderr, "%s%s\n", level == PAC_LOG_WARN ? "pac: warning: " : level == PAC_LOG_ERROR ? "pac: error: " : "", line);
}

void print_setup(bool quiet)
{
    screen.quiet = quiet;
    screen.terminal = isatty(STDERR_FILENO) == 1;
    if (pac_world_rank() == 0)
        pac_log_set_sink(log_sink, NULL, PAC_LOG_INFO);
}

static void time_left(double seconds, char *out, size_t bytes)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, bytes, "%ld h %02ld min", s / 3600, s / 60 % 60);
    else if (s >= 60)
        snprintf(out, bytes, "%ld min %02ld s", s / 60, s % 60);
    else
        snprintf(out, bytes, "%ld s", s);
}

static void show_progress(void *user, const pac_progress *p)
{
    char left[32], loss[32] = "", rate[32] = "";
    double now = pac_now();
    (void)user;
    if (now - screen.last < 0.1 && p->done < p->total)
        return;
    screen.last = now;
    time_left(p->done > 0 ? p->seconds / (double)p->done * (double)(p->total - p->done) : 0, left, sizeof left);
    if (!isnan(p->loss))
        snprintf(loss, sizeof loss, "  loss %.4f", p->loss);
    if (p->tokens_per_s > 0)
        snprintf(rate, sizeof rate, "  %.0f tokens/s", p->tokens_per_s);
    fprintf(stderr, "\r\033[K%s %lld/%lld%s%s  %s left", p->phase, (long long)p->done, (long long)p->total, loss, rate, left);
    fflush(stderr);
    screen.line_open = true;
    if (p->done >= p->total)
        print_clear_progress();
}

pac_observer print_observer(void)
{
    return (pac_observer){.progress = screen.terminal && !screen.quiet ? show_progress : NULL};
}

void print_result(const pac_args *a, const char *json, void (*table)(const char *json))
{
    if (pac_world_rank() != 0 || json == NULL)
        return;
    print_clear_progress();
    if (a->json)
        printf("%s\n", json);
    else
        table(json);
    print_flush();
}

pac_err print_flush(void)
{
    errno = 0;
    if (fflush(stdout) != 0 && screen.fault == 0)
        screen.fault = errno;
    if (!ferror(stdout))
        return PAC_OK;
    if (screen.fault == ENOSPC || screen.fault == EDQUOT)
        return pac_fail(PAC_ENOSPACE, "standard output: no space left: free some or write to another disk");
    return pac_fail(PAC_EIO, "standard output: cannot write: %s", screen.fault != 0 ? strerror(screen.fault) : "an error");
}

pac_err read_config(const pac_args *a, pac_config *c)
{
    pac_err err = pac_world_rank() == 0 ? pac_config_read(a->words[0], a->sets, a->nsets, c) : PAC_OK;
    if (pac_world_rank() == 0 && err == PAC_OK)
        err = keep_inputs(a, c);
    PAC_TRY(pac_agree(pac_world(), err));
    return pac_bcast(pac_world(), c, sizeof *c, 0);
}
