/*
 * What the files of src/parallel share: the communicator, the check of every MPI return, the one wait.
 *
 * This is the only header of the project that includes <mpi.h>; tests of this folder may include it.
 */
#ifndef PAC_PARALLEL_INTERNAL_H
#define PAC_PARALLEL_INTERNAL_H

#include "pac/parallel.h"

#include <mpi.h>

struct pac_comm {
    MPI_Comm mpi; /* MPI_COMM_NULL: this process alone, MPI may not even be running */
    int rank, size;
    int *world;           /* [size] world rank of each member; NULL: this process alone */
    int *counts, *displs; /* [size] of the gather in progress; in the block of `world` */
};

/* Bytes that one MPI call may carry. Bounds counts (int) and the scratch that the MPI library takes; tests make it tiny. */
extern size_t pac_block_bytes;

/* Largest result of a gather that is addressed by MPI's displacements (an int); tests make it tiny. */
extern size_t pac_direct_bytes;

/* ---- errors of MPI ---- */

/** Turn an MPI return code into an error; `call` is the text of the call. MPI_ERR_NO_MEM: PAC_ENOMEM; ours: PAC_EINTERNAL; else
 * PAC_EPEER. */
pac_err pac_mpi_fail(int rc, const char *call);

/* Return early when an MPI call fails. */
#define PAC_MPI(call)                                                                                                          \
    do {                                                                                                                       \
        int pac_rc_ = (call);                                                                                                  \
        if (pac_rc_ != MPI_SUCCESS)                                                                                            \
            return pac_mpi_fail(pac_rc_, #call);                                                                               \
    } while (0)

/* ---- waiting ---- */

/* What a wait is for; only read when its deadline passes. */
typedef struct pac_awaited {
    const char *what;     /* "a sum", "receiving micro-batch" */
    int64_t number;       /* of the micro-batch, -1: none */
    int peer;             /* world rank, -1: all members of `comm` */
    const pac_comm *comm; /* of a collective, else NULL */
    size_t bytes;
} pac_awaited;

/** Wait for one request with the deadline. `status` may be MPI_STATUS_IGNORE. Errors: PAC_EPEER; only pac_world_abort() makes
 * sense then. */
pac_err pac_wait(MPI_Request *request, const pac_awaited *awaited, MPI_Status *status);

/** True after a wait passed its deadline: no further communication can be relied on. */
bool pac_wait_failed(void);

/** What pac_comm_spent() tells. */
extern pac_comm_seconds pac_waited;

/** Messages and sums that were started and not yet waited for. */
extern int64_t pac_under_way;

/** End the thread of pac_comm_away(), before MPI does. */
void pac_progress_end(void);

/** Read PAC_TIMEOUT. Errors: PAC_EUSAGE. */
pac_err pac_wait_init(void);

/* ---- the roll call after a failed wait ---- */

/** Answer one call, if there is any, with what this rank waits for. */
void pac_roll_answer(const char *waiting_for);

/** Ask all ranks what they wait for: "; silent...: rank 2 (host); rank 1 (host) waits for ..." Takes a second if one is silent.
 */
void pac_roll_call(const char *waiting_for, char *buf, size_t bytes);

/* ---- the world ---- */

/** Communicator of the roll call. */
MPI_Comm pac_world_roll(void);

/** Communicator for point-to-point traffic of links: world ranks, no other traffic. */
MPI_Comm pac_world_links(void);

/** Wrap `mpi` (taken over by *out on success). */
pac_err pac_comm_wrap(MPI_Comm mpi, pac_comm *out);

#endif
