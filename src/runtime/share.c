/* Data sets from rank 0 to every rank: text needs to be on one device only, and is tokenised once. */
#include "share.h"
#include "pac/parallel.h"

static pac_err share_array(void **array, int64_t n, size_t size, bool present)
{
    if (!present)
        return PAC_OK;
    pac_err err = PAC_OK;
    if (pac_world_rank() != 0)
        err = pac_mem_array(PAC_MEM_DATA, n, size, array);
    PAC_TRY(pac_agree(pac_world(), err));
    return pac_bcast(pac_world(), *array, (size_t)n * size, 0);
}

pac_err share_dataset(pac_dataset *d)
{
    int64_t head[7] = {d->rows, 0, 0, d->cls != NULL, d->value != NULL, (int64_t)d->identity, d->second != NULL};
    if (pac_world_rank() == 0) {
        head[1] = d->soff[d->rows];
        head[2] = d->toff[d->rows];
    }
    PAC_TRY(pac_bcast(pac_world(), head, sizeof head, 0));
    d->rows = head[0];
    d->identity = (uint64_t)head[5];
    PAC_TRY(share_array((void **)&d->soff, head[0] + 1, sizeof(int64_t), true));
    PAC_TRY(share_array((void **)&d->toff, head[0] + 1, sizeof(int64_t), true));
    PAC_TRY(share_array((void **)&d->sids, head[1], sizeof(int32_t), true));
    PAC_TRY(share_array((void **)&d->labels, head[2], sizeof(int32_t), true));
    PAC_TRY(share_array((void **)&d->cls, head[0], sizeof(int32_t), head[3] != 0));
    PAC_TRY(share_array((void **)&d->second, head[0], sizeof(int32_t), head[6] != 0));
    return share_array((void **)&d->value, head[0], sizeof(float), head[4] != 0);
}
