/*
 * The world: starting and ending MPI, who runs where, splitting communicators.
 *
 * Before pac_world_init() there is a world of one rank on which every collective is a no-op, so that commands and tests without
 * MPI run the same code. A node is the set of ranks that share memory; PAC_NODE_SIZE=k cuts it into pretended nodes of k ranks.
 */
#include "internal.h"

#include "pac/clock.h"
#include "pac/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_BYTES = 64 };
typedef char host_name[HOST_BYTES];

static struct {
    bool running; /* between MPI_Init and MPI_Finalize */
    bool left;    /* this rank left the world and only waits for its end */
    pac_comm world, node;
    int *started;  /* [size] number that each rank was started with; NULL: the same */
    MPI_Comm base; /* of the world's numbers: links and roll are duplicates of it */
    MPI_Comm links, roll, end;
    host_name host;   /* of this rank */
    host_name *hosts; /* [size] */
    int *node_of;     /* [size] */
    int nodes;
} state = {.world = {.mpi = MPI_COMM_NULL, .size = 1},
           .node = {MPI_COMM_NULL, 0, 1, NULL},
           .base = MPI_COMM_NULL,
           .links = MPI_COMM_NULL,
           .roll = MPI_COMM_NULL,
           .end = MPI_COMM_NULL,
           .nodes = 1};

pac_err pac_mpi_fail(int rc, const char *call)
{
    static const struct {
        int mpi;
        pac_err code;
    } table[] = {
        {MPI_ERR_NO_MEM, PAC_ENOMEM},  {MPI_ERR_TRUNCATE, PAC_EINTERNAL}, {MPI_ERR_COUNT, PAC_EINTERNAL},
        {MPI_ERR_TYPE, PAC_EINTERNAL}, {MPI_ERR_TAG, PAC_EINTERNAL},      {MPI_ERR_COMM, PAC_EINTERNAL},
        {MPI_ERR_RANK, PAC_EINTERNAL}, {MPI_ERR_ROOT, PAC_EINTERNAL},     {MPI_ERR_OP, PAC_EINTERNAL},
        {MPI_ERR_ARG, PAC_EINTERNAL},  {MPI_ERR_BUFFER, PAC_EINTERNAL},   {MPI_ERR_REQUEST, PAC_EINTERNAL},
    };
    int class = MPI_ERR_OTHER, length;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    MPI_Error_class(rc, &class);
    MPI_Error_string(rc, text, &length);
    pac_err code = PAC_EPEER;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        code = table[i].mpi == class ? table[i].code : code;
    return pac_fail(code, "%.*s failed: %s", (int)strcspn(call, "("), call, text);
}

/* ---- start ---- */

static pac_err node_size_wanted(int *out)
{
    const char *text = getenv("PAC_NODE_SIZE");
    *out = state.world.size;
    if (text == NULL)
        return PAC_OK;
    char *end;
    long k = strtol(text, &end, 10);
    PAC_CHECK(end != text && *end == '\0' && k >= 1, PAC_EUSAGE, "PAC_NODE_SIZE=%s: a number of ranks above 0 expected", text);
    if (k < state.world.size)
        *out = (int)k;
    return PAC_OK;
}

pac_err pac_comm_wrap(MPI_Comm mpi, pac_comm *out)
{
    pac_comm c = {.mpi = mpi};
    PAC_MPI(MPI_Comm_rank(mpi, &c.rank));
    PAC_MPI(MPI_Comm_size(mpi, &c.size));
    MPI_Group all, mine;
    void *world, *index;
    PAC_TRY(pac_mem_array(PAC_MEM_COMM, c.size, 3 * sizeof(int), &world));
    pac_err err = pac_mem_array(PAC_MEM_COMM, c.size, sizeof(int), &index);
    if (err != PAC_OK) {
        pac_mem_free(world);
        return err;
    }
    for (int i = 0; i < c.size; i++)
        ((int *)index)[i] = i;
    int rc = MPI_Comm_group(state.base, &all);
    rc = rc != MPI_SUCCESS ? rc : MPI_Comm_group(mpi, &mine);
    rc = rc != MPI_SUCCESS ? rc : MPI_Group_translate_ranks(mine, c.size, index, all, world);
    pac_mem_free(index);
    if (rc != MPI_SUCCESS) {
        pac_mem_free(world);
        return pac_mpi_fail(rc, "MPI_Group_translate_ranks");
    }
    MPI_Group_free(&all);
    MPI_Group_free(&mine);
    c.world = world;
    c.counts = c.world + c.size;
    c.displs = c.counts + c.size;
    *out = c;
    return PAC_OK;
}

static pac_err gather_hosts(void)
{
    void *hosts, *node_of;
    pac_err err = pac_mem_array(PAC_MEM_COMM, state.world.size, HOST_BYTES, &hosts);
    if (err == PAC_OK) {
        state.hosts = hosts;
        err = pac_mem_array(PAC_MEM_COMM, state.world.size, sizeof(int), &node_of);
        state.node_of = err == PAC_OK ? node_of : NULL;
    }
    PAC_TRY(pac_agree(&state.world, err));
    host_name mine;
    memcpy(mine, pac_world_host(), HOST_BYTES);
    PAC_MPI(MPI_Allgather(mine, HOST_BYTES, MPI_CHAR, state.hosts, HOST_BYTES, MPI_CHAR, state.world.mpi));
    return PAC_OK;
}

/* Nodes are numbered in the order of their lowest rank. */
static pac_err number_nodes(void)
{
    int leader = state.node.world[0];
    PAC_MPI(MPI_Allgather(&leader, 1, MPI_INT, state.node_of, 1, MPI_INT, state.world.mpi));
    state.nodes = 0;
    for (int r = 0; r < state.world.size;
         r++) /* a leader is the lowest of its node, so its number is known when it is needed */
        state.node_of[r] = state.node_of[r] == r ? state.nodes++ : state.node_of[state.node_of[r]];
    return PAC_OK;
}

static pac_err split_nodes(int node_size)
{
    MPI_Comm shared, node;
    int place;
    PAC_MPI(MPI_Comm_split_type(state.world.mpi, MPI_COMM_TYPE_SHARED, state.world.rank, MPI_INFO_NULL, &shared));
    PAC_MPI(MPI_Comm_rank(shared, &place));
    PAC_MPI(MPI_Comm_split(shared, place / node_size, place, &node));
    PAC_MPI(MPI_Comm_free(&shared));
    PAC_TRY(pac_agree(&state.world, pac_comm_wrap(node, &state.node)));
    return number_nodes();
}

/* The world is `mpi` from now on (taken over, but for MPI_COMM_WORLD). */
static pac_err settle(MPI_Comm mpi)
{
    state.base = mpi;
    return pac_comm_wrap(mpi, &state.world);
}

/* Who is where, and communicators for links and the roll call. */
static pac_err meet(int node_size)
{
    PAC_TRY(gather_hosts());
    PAC_MPI(MPI_Comm_dup(state.world.mpi, &state.links));
    PAC_MPI(MPI_Comm_dup(state.world.mpi, &state.roll));
    return split_nodes(node_size);
}

pac_err pac_world_init(int *argc, char ***argv)
{
    int provided, node_size = 1;
    setenv("OMPI_MCA_mpi_yield_when_idle", "0", 0); /* wait.c gives the core away; a look between two layers must not */
    PAC_CHECK(!state.running, PAC_EINTERNAL, "MPI is already running");
    PAC_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided));
    state.running = true;
    PAC_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)); /* inherited by what is made of it */
    PAC_CHECK(provided >= MPI_THREAD_SERIALIZED, PAC_ECONFIG,
              "this MPI library does not support threads (MPI_THREAD_SERIALIZED)");
    PAC_TRY(settle(MPI_COMM_WORLD));
    PAC_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &state.end));
    pac_err err = pac_wait_init();
    err = err != PAC_OK ? err : node_size_wanted(&node_size);
    PAC_TRY(pac_agree(&state.world, err));
    return meet(node_size);
}

/* ---- a smaller world ---- */

/* What was made of a world that is no more. */
static void dissolve(void)
{
    MPI_Comm *made[] = {&state.node.mpi, &state.links, &state.roll};
    for (int i = 0; i < 3; i++)
        if (*made[i] != MPI_COMM_NULL)
            MPI_Comm_free(made[i]);
    if (state.base != MPI_COMM_WORLD && state.base != MPI_COMM_NULL)
        MPI_Comm_free(&state.base);
    pac_mem_free(state.node.world);
    pac_mem_free(state.world.world);
    pac_mem_free(state.hosts);
    pac_mem_free(state.node_of);
    state.node = state.world = (pac_comm){.mpi = MPI_COMM_NULL, .size = 1};
    state.base = MPI_COMM_NULL;
    state.hosts = NULL;
    state.node_of = NULL;
    state.nodes = 1;
}

/* Room for the numbers that ranks were started with, on all ranks or none. */
static pac_err room_for_started(void)
{
    void *p = NULL;
    pac_err err = pac_agree(&state.world, pac_mem_array(PAC_MEM_COMM, state.world.size, sizeof(int), &p));
    if (err != PAC_OK)
        pac_mem_free(p);
    else
        state.started = p;
    return err;
}

pac_err pac_world_leave(bool leaves)
{
    int node_size, mine = state.world.rank;
    MPI_Comm smaller;
    PAC_CHECK(state.running && state.started == NULL, PAC_EINTERNAL, "ranks leave a running world, and once");
    PAC_TRY(room_for_started());
    PAC_MPI(MPI_Comm_split(state.world.mpi, leaves ? MPI_UNDEFINED : 0, mine, &smaller));
    if (leaves) {
        dissolve();
        state.left = true;
        state.world.rank = -1;
        return PAC_OK;
    }
    PAC_MPI(MPI_Allgather(&mine, 1, MPI_INT, state.started, 1, MPI_INT, smaller));
    dissolve();
    PAC_TRY(settle(smaller));
    PAC_TRY(node_size_wanted(&node_size));
    return meet(node_size);
}

/* ---- end ---- */

/* Ranks that left wait as long as the others work; mpirun ends them where those fail. */
static void wait_for_end(void)
{
    MPI_Request request;
    int done = MPI_Ibarrier(state.end, &request) != MPI_SUCCESS;
    while (!done && MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS)
        pac_sleep(0.02);
}

/* MPI_Finalize waits for ever for a rank that is gone: meet with a deadline first. */
static pac_err meet_at_end(void)
{
    const pac_awaited awaited = {.what = "the end of the run", .number = -1, .peer = -1, .comm = &state.world};
    MPI_Request request;
    PAC_TRY(pac_barrier(&state.world));
    if (state.started == NULL)
        return PAC_OK;
    PAC_MPI(MPI_Ibarrier(state.end, &request)); /* those that left are there already */
    return pac_wait(&request, &awaited, MPI_STATUS_IGNORE);
}

void pac_world_done(void)
{
    if (!state.running)
        return;
    if (state.left) {
        wait_for_end();
    } else if (pac_wait_failed() || meet_at_end() != PAC_OK) {
        pac_log(PAC_LOG_ERROR, "%s", pac_err_message());
        pac_world_abort(pac_err_exit_code(PAC_EPEER));
    }
    pac_progress_end();
    dissolve();
    MPI_Comm_free(&state.end);
    pac_mem_free(state.started);
    state.started = NULL;
    state.left = false;
    MPI_Finalize();
    state.running = false;
}

/*
 * Open MPI 4.1's mpirun ends all ranks, with the status of the first, when a rank ends with another status than 0. MPI_Abort()
 * asks for the same at once, but mpirun mishandles the message that comes with it: one run in four prints internal errors, some
 * return 139.
 */
static bool under_mpirun(void)
{
    return getenv("OMPI_MCA_orte_hnp_uri") != NULL;
}

void pac_world_abort(int status)
{
    fflush(NULL);
    if (state.running && !under_mpirun())
        MPI_Abort(MPI_COMM_WORLD, status);
    _exit(status);
}

/* ---- who is where ---- */

int64_t pac_world_rank(void)
{
    return state.world.rank;
}

int64_t pac_world_started_as(int64_t rank)
{
    return state.started != NULL && rank >= 0 && rank < state.world.size ? state.started[rank] : rank;
}

int64_t pac_world_size(void)
{
    return state.world.size;
}

pac_comm *pac_world(void)
{
    return &state.world;
}

MPI_Comm pac_world_links(void)
{
    return state.links;
}

MPI_Comm pac_world_roll(void)
{
    return state.roll;
}

const char *pac_world_host(void)
{
    if (state.host[0] == '\0' && gethostname(state.host, HOST_BYTES - 1) != 0)
        snprintf(state.host, HOST_BYTES, "unknown");
    return state.host;
}

const char *pac_world_host_of(int64_t rank)
{
    return state.hosts != NULL && rank >= 0 && rank < state.world.size ? state.hosts[rank] : pac_world_host();
}

int64_t pac_node_rank(void)
{
    return state.node.rank;
}

int64_t pac_node_size(void)
{
    return state.node.size;
}

int64_t pac_node_of(int64_t rank)
{
    return state.node_of != NULL && rank >= 0 && rank < state.world.size ? state.node_of[rank] : 0;
}

int64_t pac_node_count(void)
{
    return state.nodes;
}

pac_comm *pac_node(void)
{
    return &state.node;
}

/* ---- communicators ---- */

int64_t pac_comm_rank(const pac_comm *c)
{
    return c->rank;
}

int64_t pac_comm_size(const pac_comm *c)
{
    return c->size;
}

/* All members of the parent are here (a barrier with its deadline came before), so this cannot wait for long. */
static pac_err split_mpi(pac_comm *parent, int64_t colour, int64_t key, MPI_Comm *out)
{
    *out = MPI_COMM_NULL;
    if (parent->mpi != MPI_COMM_NULL)
        PAC_MPI(MPI_Comm_split(parent->mpi, colour < 0 ? MPI_UNDEFINED : (int)colour, (int)key, out));
    return PAC_OK;
}

pac_err pac_comm_split(pac_comm *parent, int64_t colour, int64_t key, pac_comm **out)
{
    pac_err err = PAC_OK;
    void *c = NULL;
    MPI_Comm mpi;
    if (colour > INT32_MAX || key > INT32_MAX || key < 0)
        err = pac_fail(PAC_EINVAL, "colour %lld or key %lld is out of range", (long long)colour, (long long)key);
    else if (colour >= 0)
        err = pac_mem_alloc(PAC_MEM_COMM, sizeof(pac_comm), &c);
    PAC_GO(pac_agree(parent, err));
    PAC_GO(split_mpi(parent, colour, key, &mpi));
    if (mpi != MPI_COMM_NULL)
        err = pac_comm_wrap(mpi, c);
    else if (c != NULL)
        *(pac_comm *)c = (pac_comm){.mpi = MPI_COMM_NULL, .size = 1};
    PAC_GO(pac_agree(parent, err));
    *out = c;
    return PAC_OK;
out:
    pac_mem_free(c);
    return err;
}

void pac_comm_free(pac_comm **c)
{
    if (c == NULL || *c == NULL)
        return;
    if ((*c)->mpi != MPI_COMM_NULL && state.running && !pac_wait_failed())
        MPI_Comm_free(&(*c)->mpi);
    pac_mem_free((*c)->world);
    pac_mem_free(*c);
    *c = NULL;
}
