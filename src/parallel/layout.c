/* A plan made of ranks: which stage and place this rank has, and the communicators that follow from it. */
#include "internal.h"

/* Place of `rank` in the plan; false: in no stage. */
static bool find_rank(const pac_plan *plan, int64_t rank, int64_t *stage, int64_t *member)
{
    for (int64_t p = 0; p < plan->stages; p++) {
        for (int64_t i = 0; i < plan->stage[p].ranks; i++) {
            if (plan->stage[p].rank[i] == rank) {
                *stage = p;
                *member = i;
                return true;
            }
        }
    }
    return false;
}

/* A link addresses ranks of the plan, so each must exist. */
static pac_err check_ranks(const pac_plan *plan)
{
    int64_t ranks = 0;
    for (int64_t p = 0; p < plan->stages; p++) {
        ranks += plan->stage[p].ranks;
        for (int64_t i = 0; i < plan->stage[p].ranks; i++) {
            int64_t r = plan->stage[p].rank[i];
            PAC_CHECK(r >= 0 && r < plan->world, PAC_ECONFIG, "stage %lld of the plan names rank %lld of %lld", (long long)p,
                      (long long)r, (long long)plan->world);
        }
    }
    PAC_CHECK(ranks == plan->world, PAC_ECONFIG, "the plan places %lld ranks in stages but is for %lld", (long long)ranks,
              (long long)plan->world);
    return PAC_OK;
}

pac_err pac_layout_new(const pac_plan *plan, pac_layout *out)
{
    pac_layout l = {.plan = plan, .P = plan->stages, .M = plan->microbatches};
    int64_t rank = pac_world_rank(), size = pac_world_size();
    PAC_CHECK(plan->world == size, PAC_ECONFIG,
              "the plan is for %lld ranks but %lld run: start it with mpirun -np %lld, or plan anew", (long long)plan->world,
              (long long)size, (long long)plan->world);
    pac_err err = check_ranks(plan);
    if (err == PAC_OK && !find_rank(plan, rank, &l.stage, &l.member))
        err = pac_fail(PAC_ECONFIG, "the plan has rank %lld in no stage", (long long)rank);
    PAC_TRY(pac_agree(pac_world(), err));
    PAC_TRY(pac_comm_split(pac_world(), l.stage, l.member, &l.group));
    *out = l;
    return PAC_OK;
}

void pac_layout_free(pac_layout *l)
{
    pac_comm_free(&l->group);
    *l = (pac_layout){0};
}

pac_err pac_layout_stages(const pac_layout *l, const bool *in, pac_comm **out)
{
    return pac_comm_split(pac_world(), in[l->stage] ? 0 : -1, pac_world_rank(), out);
}
