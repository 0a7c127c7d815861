/*
 * The roll call: when a deadline passes, who waits for whom, and who is silent?
 *
 * A stuck rank stalls a chain of others, and a collective does not say who is missing. So the rank whose wait failed calls all
 * others; those that wait themselves answer what for (pac_wait() looks for calls now and then). A rank that neither waits nor
 * has failed computes for too long, is stuck or is lost: that is the one to look at. A run without failures sends nothing.
 */
#include "internal.h"

#include "pac/clock.h"

#include <stdio.h>
#include <string.h>

enum { TAG_CALL = 1, TAG_ANSWER, ANSWER_BYTES = 320 };
static const double patience = 1; /* seconds for the answers */

static char answer[ANSWER_BYTES];
static MPI_Request answering = MPI_REQUEST_NULL;

void pac_roll_answer(const char *waiting_for)
{
    MPI_Comm comm = pac_world_roll();
    int called = 0, free_again = 1;
    MPI_Status status;
    if (comm == MPI_COMM_NULL || MPI_Iprobe(MPI_ANY_SOURCE, TAG_CALL, comm, &called, &status) != MPI_SUCCESS || !called)
        return;
    if (MPI_Test(&answering, &free_again, MPI_STATUS_IGNORE) != MPI_SUCCESS || !free_again)
        return; /* the call stays queued */
    MPI_Recv(NULL, 0, MPI_BYTE, status.MPI_SOURCE, TAG_CALL, comm, MPI_STATUS_IGNORE);
    snprintf(answer, sizeof answer, "%s", waiting_for);
    MPI_Isend(answer, (int)sizeof answer, MPI_CHAR, status.MPI_SOURCE, TAG_ANSWER, comm, &answering);
}

/* Append to a text that may be full. */
static void append(char *buf, size_t bytes, const char *prefix, int rank, const char *text)
{
    size_t used = strlen(buf);
    if (used < bytes)
        snprintf(buf + used, bytes - used, "%srank %d (%s)%s", prefix, rank, pac_world_host_of(rank), text);
}

/* Take one answer if there is one; true if so. */
static bool take_answer(MPI_Comm comm, bool *answered, char *waiting, size_t bytes)
{
    char text[ANSWER_BYTES];
    int there = 0;
    MPI_Status status;
    if (MPI_Iprobe(MPI_ANY_SOURCE, TAG_ANSWER, comm, &there, &status) != MPI_SUCCESS || !there)
        return false;
    if (MPI_Recv(text, (int)sizeof text, MPI_CHAR, status.MPI_SOURCE, TAG_ANSWER, comm, MPI_STATUS_IGNORE) != MPI_SUCCESS)
        return false;
    text[sizeof text - 1] = '\0';
    answered[status.MPI_SOURCE] = true;
    append(waiting, bytes, "; ", status.MPI_SOURCE, " waits for ");
    size_t used = strlen(waiting);
    snprintf(waiting + used, bytes - used, "%s", text);
    return true;
}

void pac_roll_call(const char *waiting_for, char *buf, size_t bytes)
{
    MPI_Comm comm = pac_world_roll();
    int rank = (int)pac_world_rank(), size = (int)pac_world_size(), answers = 1;
    bool answered[PAC_MAX_DEVICES] = {false};
    char waiting[1024] = "";
    buf[0] = '\0';
    if (comm == MPI_COMM_NULL || size > PAC_MAX_DEVICES)
        return;
    answered[rank] = true;
    for (int r = 0; r < size; r++) {
        MPI_Request call;
        if (r != rank && MPI_Isend(NULL, 0, MPI_BYTE, r, TAG_CALL, comm, &call) == MPI_SUCCESS)
            MPI_Request_free(&call);
    }
    for (double start = pac_now(); answers < size && pac_now() - start < patience; pac_sleep(1e-4)) {
        pac_roll_answer(waiting_for); /* others may call at the same time */
        answers += take_answer(comm, answered, waiting, sizeof waiting);
    }
    const char *prefix = "; silent, so computing for long, stuck or lost: ";
    for (int r = 0; r < size; r++) {
        if (answered[r])
            continue;
        append(buf, bytes, prefix, r, "");
        prefix = ", ";
    }
    size_t used = strlen(buf);
    snprintf(buf + used, bytes - used, "%s", waiting);
}
