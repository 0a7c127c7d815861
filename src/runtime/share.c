/*
 * What ranks have in common: data sets from rank 0 (text needs to be on one device only, and is tokenised once), and the packed
 * weights of a node.
 */
#include "share.h"
#include "pac/log.h"
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

/* ---- packed weights ---- */

pac_err share_weights(pac_job *j)
{
    pac_shelf *s = NULL;
    pac_err err = PAC_OK;
    int64_t at[4] = {0}, failed;
    if (j->desc.dtype != PAC_BF16 || !j->on_hosts || pac_node_size() == 1)
        return PAC_OK;
    if (pac_node_rank() == 0 && (err = pac_shelf_new(&j->desc, j->be, &s)) == PAC_OK) {
        pac_shelf_address(s, at);
        at[3] = 1;
    }
    PAC_TRY(pac_bcast(pac_node(), at, sizeof at, 0));
    if (pac_node_rank() > 0 && at[3])
        err = pac_shelf_open(&j->desc, j->be, at, &s);
    failed = s == NULL;
    if (err != PAC_OK)
        pac_log(PAC_LOG_WARN, "every process of this node holds its own packed weights: %s", pac_err_message());
    pac_err sum = pac_sum_i64(pac_node(), &failed, 1);
    if (s != NULL)
        pac_shelf_settle(s);
    if (failed > 0 || sum != PAC_OK)
        pac_shelf_free(&s);
    j->desc.shelf = s;
    return sum;
}
