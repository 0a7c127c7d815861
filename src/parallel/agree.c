/*
 * Agreement: an error on one rank becomes the same error, with the same message, on every rank.
 *
 * One small all-reduce when all is well. The message is prefixed by the failing rank once: an agreed error that is agreed on
 * again higher up keeps its first prefix.
 */
#include "internal.h"

#include <stdio.h>
#include <string.h>

typedef struct verdict {
    int64_t code;
    char message[2048];
} verdict;

static char agreed[2048]; /* the last agreed message, prefix included */

/* The lowest member with an error, or the size of the communicator. */
static pac_err lowest_failing(pac_comm *c, pac_err local, int64_t *out)
{
    double worst = local == PAC_OK ? -c->size : -c->rank;
    PAC_TRY(pac_max_f64(c, &worst, 1));
    *out = (int64_t)-worst;
    return PAC_OK;
}

static void write_verdict(pac_err local, verdict *v)
{
    const char *text = pac_err_message()[0] != '\0' ? pac_err_message() : pac_err_name(local);
    v->code = local;
    if (agreed[0] != '\0' && strstr(text, agreed) != NULL)
        snprintf(v->message, sizeof v->message, "%s", text);
    else
        snprintf(v->message, sizeof v->message, "rank %lld (%s): %s", (long long)pac_world_rank(), pac_world_host(), text);
}

pac_err pac_agree(pac_comm *c, pac_err local)
{
    if (c->size == 1 || pac_wait_failed())
        return local;
    verdict v = {0};
    if (local != PAC_OK)
        write_verdict(local, &v);
    int64_t failing;
    pac_err err = lowest_failing(c, local, &failing);
    if (err == PAC_OK && failing == c->size)
        return PAC_OK;
    if (err == PAC_OK)
        err = pac_bcast(c, &v, sizeof v, failing);
    if (err != PAC_OK) /* the others cannot be told: the cause on this rank matters more than the broken agreement */
        return local != PAC_OK ? pac_fail(local, "%s", v.message) : err;
    snprintf(agreed, sizeof agreed, "%s", v.message);
    return pac_fail((pac_err)v.code, "%s", v.message);
}

pac_err pac_agree_same(pac_comm *c, uint64_t x, const char *what)
{
    if (c->size == 1)
        return PAC_OK;
    uint64_t most[2] = {x, ~x}; /* the largest ~x is the complement of the smallest x */
    MPI_Request request;
    PAC_MPI(MPI_Iallreduce(MPI_IN_PLACE, most, 2, MPI_UINT64_T, MPI_MAX, c->mpi, &request));
    pac_awaited awaited = {.what = "comparing an argument", .number = -1, .peer = -1, .comm = c, .bytes = sizeof most};
    PAC_TRY(pac_wait(&request, &awaited, MPI_STATUS_IGNORE));
    PAC_CHECK(most[0] == ~most[1], PAC_EINTERNAL, "%s differs between ranks: from %llu to %llu (%llu on rank %lld)", what,
              (unsigned long long)~most[1], (unsigned long long)most[0], (unsigned long long)x, (long long)pac_world_rank());
    return PAC_OK;
}
