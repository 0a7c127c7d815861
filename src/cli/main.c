/* Entry: find the command, start MPI where it is wanted, run, report an error once, exit with the documented status. */
#include "cli.h"
#include "pac/blas.h"
#include "pac/clock.h"
#include "pac/parallel.h"
#include "pac/pool.h"
#include "pac/yaml.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Before MPI starts, the launcher's variable tells the rank, so that four ranks do not complain four times. */
static bool is_first_process(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (rank == NULL)
        rank = getenv("SLURM_PROCID");
    return rank == NULL || strcmp(rank, "0") == 0;
}

static void say_error(pac_err err)
{
    print_clear_progress();
    if (err == PAC_ENOTBUILT) /* such messages say so in their own words */
        fprintf(stderr, "pac: error: %s\n", pac_err_message());
    else
        fprintf(stderr, "pac: error: %s: %s\n", pac_err_name(err), pac_err_message());
}

/*
 * An error that every process meets alike: the first one says it. The others wait until mpirun has seen it end (a process that
 * ends with an error takes all others along, unheard).
 */
enum { TURN = 3 }; /* seconds; mpirun takes one to end the others */

static int say_once(pac_err err)
{
    if (is_first_process())
        say_error(err);
    else
        pac_sleep(TURN);
    return pac_err_exit_code(err);
}

static int unknown_command(const char *word)
{
    const char *known[32];
    int n = 0;
    for (const command *c = commands; c->name != NULL && n < 31; c++)
        known[n++] = c->name;
    known[n] = NULL;
    const char *near = pac_nearest(word, known);
    return say_once(pac_fail(PAC_EUSAGE, "unknown command '%s'%s%s%s (pac --help lists them)", word,
                             near != NULL ? ": did you mean " : "", near != NULL ? near : "", near != NULL ? "?" : ""));
}

/*
 * Most errors are known to all ranks: rank 0 tells and ends everybody. An error of one rank alone is told by that rank, which
 * first gives rank 0 the time to do so.
 */
static void end_all(pac_err err)
{
    if (pac_world_rank() != 0)
        pac_sleep(TURN);
    say_error(err);
    fflush(NULL);
    pac_world_abort(pac_err_exit_code(err));
}

/* Every block that a command took it gave back, also when it failed: our own bug where it did not, told by each rank that has
 * one. */
static void check_leaks(void)
{
    if (pac_mem_blocks() > 0)
        fprintf(stderr, "pac: warning: rank %lld ends with %lld blocks of memory not freed (a bug of pac)\n",
                (long long)pac_world_rank(), (long long)pac_mem_blocks());
}

/* None may run while MPI and other libraries are taken down. */
static void end_threads(void)
{
    pac_backend_release();
    pac_pool_stop();
}

/* All ranks come here with the same command line; an error that all share is told once. */
static int run_parallel(const command *c, const pac_args *a, int *argc, char ***argv)
{
    pac_err err = pac_world_init(argc, argv);
    if (err != PAC_OK) {
        if (!is_first_process())
            pac_sleep(TURN);
        say_error(err); /* a rank that lives until here failed alone */
        return pac_err_exit_code(err);
    }
    print_setup(a->quiet);
    err = c->run(a);
    if (err != PAC_OK && pac_world_size() > 1)
        end_all(err);
    if (err != PAC_OK)
        say_error(err);
    end_threads();
    pac_world_done();
    check_leaks();
    return pac_err_exit_code(err);
}

static int run_command(const command *c, int *argc, char ***argv)
{
    pac_args a;
    pac_err err = parse_args(c, *argc, *argv, &a);
    if (err == PAC_OK && a.help) {
        print_command_help(c);
        return 0;
    }
    if (err == PAC_OK && c->run == NULL)
        err = pac_fail(PAC_ENOTBUILT, "pac %s: not built yet", c->name);
    if (err == PAC_OK && c->mpi)
        return run_parallel(c, &a, argc, argv);
    if (err == PAC_OK && is_first_process()) { /* under mpirun too, one process does it */
        print_setup(a.quiet);
        err = c->run(&a);
        end_threads();
        check_leaks();
    }
    return err == PAC_OK ? 0 : say_once(err);
}

/* What was asked for, and its exit status. */
static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help();
        return pac_err_exit_code(PAC_EUSAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        print_version();
        return 0;
    }
    const command *c = find_command(argv[1]);
    return c != NULL ? run_command(c, &argc, &argv) : unknown_command(argv[1]);
}

/* Where standard input or output is closed no file may take its number, or what is printed would end up in it. Its use fails.
 */
static void occupy_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            return;
}

/* OpenBLAS chooses its kernels when it is loaded: where it chose badly this program starts anew and tells it. The user's choice
 * wins. */
static void start_with_right_core(char **argv)
{
    const char *core = getenv("OPENBLAS_CORETYPE") == NULL ? pac_blas_misled() : NULL;
    if (core != NULL && setenv("OPENBLAS_CORETYPE", core, 0) == 0)
        execv("/proc/self/exe", argv); /* if that fails, it is only slower */
}

/* A result that did not arrive (a full disk, a closed output) is no success. */
int main(int argc, char **argv)
{
    start_with_right_core(argv);
    occupy_standard_streams();
    int status = run(argc, argv);
    pac_err err = print_flush();
    if (status != 0 || err == PAC_OK)
        return status;
    say_error(err);
    return pac_err_exit_code(err);
}
