/*
 * Collectives on rows that are not the host's: piece by piece through two places of staging memory, so that one piece comes
 * from the backend while the one before is on the network. Ranks that compute on their host take part in the same pieces.
 */
#include "transfer.h"

enum { PIECE = 1 << 20 }; /* floats */

static int64_t piece_at(int64_t at, int64_t n)
{
    return n - at < PIECE ? n - at : PIECE;
}

static pac_err start(const pac_space *space, float *place, const float *x, int64_t at, int64_t n, int64_t *ticket)
{
    return at < n ? space->download_start(place, x + at, (size_t)piece_at(at, n) * sizeof *x, ticket) : PAC_OK;
}

static pac_err sum_pieces(pac_comm *c, const pac_space *space, float *const place[2], float *x, int64_t n)
{
    int64_t ticket[2];
    PAC_TRY(start(space, place[0], x, 0, n, &ticket[0]));
    for (int64_t at = 0, k = 0; at < n; at += PIECE, k = 1 - k) {
        PAC_TRY(space->wait(ticket[k]));
        PAC_TRY(start(space, place[1 - k], x, at + PIECE, n, &ticket[1 - k]));
        PAC_TRY(pac_sum_f32(c, place[k], piece_at(at, n)));
        PAC_TRY(pac_upload(space, x + at, place[k], piece_at(at, n)));
    }
    return PAC_OK;
}

static pac_err places(const pac_job *job, int64_t n, float *place[2])
{
    PAC_TRY(pac_arena_floats(job->staging, piece_at(0, n), &place[0]));
    return pac_arena_floats(job->staging, piece_at(0, n), &place[1]);
}

static pac_err sum_on_host(pac_comm *c, const pac_job *job, float *x, int64_t n)
{
    if (job->on_hosts || job->direct)
        return pac_sum_f32(c, x, n);
    for (int64_t at = 0; at < n; at += PIECE)
        PAC_TRY(pac_sum_f32(c, x + at, piece_at(at, n)));
    return PAC_OK;
}

static pac_err bcast_on_host(pac_comm *c, const pac_job *job, float *x, int64_t n, int64_t root)
{
    if (job->on_hosts || job->direct)
        return pac_bcast(c, x, (size_t)n * sizeof *x, root);
    for (int64_t at = 0; at < n; at += PIECE)
        PAC_TRY(pac_bcast(c, x + at, (size_t)piece_at(at, n) * sizeof *x, root));
    return PAC_OK;
}

pac_err ranks_sum(pac_comm *c, const pac_job *job, float *x, int64_t n)
{
    float *place[2];
    const pac_space *space = job->be->space;
    if (space != NULL && pac_comm_size(c) == 1)
        return PAC_OK;
    if (job->direct)
        PAC_TRY(pac_space_sync(space));
    if (space == NULL || job->direct)
        return sum_on_host(c, job, x, n);
    pac_arena_reset(job->staging);
    PAC_TRY(places(job, n, place));
    return sum_pieces(c, space, place, x, n);
}

pac_err ranks_bcast(pac_comm *c, const pac_job *job, float *x, int64_t n, int64_t root)
{
    float *place[2];
    const pac_space *space = job->be->space;
    if (space != NULL && pac_comm_size(c) == 1)
        return PAC_OK;
    if (job->direct)
        PAC_TRY(pac_space_sync(space));
    if (space == NULL || job->direct)
        return bcast_on_host(c, job, x, n, root);
    pac_arena_reset(job->staging);
    PAC_TRY(places(job, n, place));
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t count = piece_at(at, n);
        if (pac_comm_rank(c) == root)
            PAC_TRY(pac_download(space, place[0], x + at, count));
        PAC_TRY(pac_bcast(c, place[0], (size_t)count * sizeof *x, root));
        if (pac_comm_rank(c) != root)
            PAC_TRY(pac_upload(space, x + at, place[0], count));
    }
    return PAC_OK;
}
