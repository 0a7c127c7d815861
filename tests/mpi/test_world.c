/* World, nodes (PAC_NODE_SIZE too), splitting and agreement on errors, for any number of ranks; ends with 2 if PAC_* is
 * nonsense. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

static void test_world(void)
{
    CHECK(pac_comm_rank(pac_world()) == pac_world_rank(), "rank of the world");
    CHECK(pac_comm_size(pac_world()) == pac_world_size(), "size of the world");
    CHECK(pac_world_host()[0] != '\0', "a host has a name");
    for (int64_t r = 0; r < pac_world_size(); r++)
        CHECK(strcmp(pac_world_host_of(r), pac_world_host()) == 0, "host of rank %d", (int)r);
}

static void test_nodes(void)
{
    const char *pretended = getenv("PAC_NODE_SIZE");
    int64_t rank = pac_world_rank(), size = pac_world_size(), k = pretended != NULL ? atoi(pretended) : size;
    CHECK(pac_node_count() == (size + k - 1) / k, "%d nodes", (int)pac_node_count());
    for (int64_t r = 0; r < size; r++)
        CHECK(pac_node_of(r) == r / k, "rank %d is on node %d", (int)r, (int)pac_node_of(r));
    int64_t left = size - rank / k * k, members = 1;
    CHECK(pac_node_size() == (left < k ? left : k) && pac_node_rank() == rank % k, "rank %d of %d", (int)pac_node_rank(),
          (int)pac_node_size());
    CHECK_OK(pac_sum_i64(pac_node(), &members, 1));
    CHECK(members == pac_node_size(), "%d in the node's communicator", (int)members);
}

static void test_split_by_parity(void)
{
    int64_t rank = pac_world_rank(), size = pac_world_size();
    pac_comm *c = NULL;
    CHECK_OK(pac_comm_split(pac_world(), rank % 2, size - rank, &c)); /* in reverse order */
    int64_t members = rank % 2 == 0 ? (size + 1) / 2 : size / 2;
    CHECK(pac_comm_size(c) == members, "%d members", (int)pac_comm_size(c));
    CHECK(pac_comm_rank(c) == members - 1 - rank / 2, "reversed: %d", (int)pac_comm_rank(c));
    int64_t sum = rank;
    CHECK_OK(pac_sum_i64(c, &sum, 1));
    CHECK(sum == members * (members - 1) + members * (rank % 2), "sum of the members' ranks is %d", (int)sum);
    pac_comm_free(&c);
    CHECK(c == NULL, "free sets NULL");
}

static void test_split_leaves_ranks_out(void)
{
    pac_comm *c = NULL;
    CHECK_OK(pac_comm_split(pac_world(), pac_world_rank() == 0 ? 0 : -1, 0, &c));
    CHECK((c != NULL) == (pac_world_rank() == 0), "only rank 0 is in");
    pac_comm_free(&c);
    CHECK(pac_comm_split(pac_world(), 0, pac_world_rank() == 0 ? -1 : 0, &c) == PAC_EINVAL,
          "a bad key on one rank fails on all");
    CHECK(c == NULL, "nothing changed");
}

static void test_every_rank_fails_in_turn(void)
{
    int64_t size = pac_world_size();
    for (int64_t bad = 0; bad < size; bad++) {
        pac_err local = PAC_OK;
        if (pac_world_rank() >= bad) /* the lowest decides, whatever the others say */
            local = pac_fail(pac_world_rank() == bad ? PAC_EDATA : PAC_EIO, "row %d is odd", (int)pac_world_rank());
        char expected[128], prefix[96] = "";
        if (size > 1)
            snprintf(prefix, sizeof prefix, "rank %d (%.64s): ", (int)bad, pac_world_host());
        snprintf(expected, sizeof expected, "%srow %d is odd", prefix, (int)bad);
        CHECK(pac_agree(pac_world(), local) == PAC_EDATA, "code of rank %d", (int)bad);
        CHECK(strcmp(pac_err_message(), expected) == 0, "'%s' is not '%s'", pac_err_message(), expected);
        local = pac_fail_context(PAC_EDATA, "epoch 1");
        CHECK(pac_agree(pac_world(), local) == PAC_EDATA, "agreed again");
        CHECK(strstr(pac_err_message(), "epoch 1: ") == pac_err_message(), "no second prefix: %s", pac_err_message());
    }
    CHECK_OK(pac_agree(pac_world(), PAC_OK));
}

static void test_same_argument(void)
{
    const uint64_t same[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        CHECK_OK(pac_agree_same(pac_world(), same[i], "seed"));
    if (pac_world_size() == 1)
        return;
    uint64_t x = pac_world_rank() == pac_world_size() - 1 ? UINT64_MAX : 7;
    CHECK(pac_agree_same(pac_world(), x, "seed") == PAC_EINTERNAL, "differs");
    CHECK(strncmp(pac_err_message(), "seed differs", 12) == 0, "%s", pac_err_message());
}

int main(int argc, char **argv)
{
    CHECK_OK(pac_agree(pac_world(), PAC_OK)); /* before MPI runs: a world of one */
    pac_err err = pac_world_init(&argc, &argv);
    if (err != PAC_OK) {
        fprintf(stderr, "%s\n", pac_err_message());
        pac_world_abort(pac_err_exit_code(err));
    }
    test_world();
    test_nodes();
    test_split_by_parity();
    test_split_leaves_ranks_out();
    test_every_rank_fails_in_turn();
    test_same_argument();
    pac_world_done();
    CHECK(pac_mem_blocks() == 0, "%d blocks leaked", (int)pac_mem_blocks());
    return 0;
}
