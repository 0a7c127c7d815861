/*
 * The little that a program under mpirun needs instead of CMocka: a failed check prints where and on which rank, and ends all
 * ranks with 1, so that no other rank waits for one that has given up.
 */
#ifndef PAC_TEST_MPI_CHECK_H
#define PAC_TEST_MPI_CHECK_H

#include "pac/parallel.h"

#include <stdio.h>

#define CHECK(cond, ...)                                                                                                       \
    do {                                                                                                                       \
        if (!(cond)) {                                                                                                         \
            fprintf(stderr, "%s:%d: rank %d: %s: ", __FILE__, __LINE__, (int)pac_world_rank(), #cond);                         \
            fprintf(stderr, __VA_ARGS__);                                                                                      \
            fprintf(stderr, "\n");                                                                                             \
            pac_world_abort(1);                                                                                                \
        }                                                                                                                      \
    } while (0)

#define CHECK_OK(expr) CHECK((expr) == PAC_OK, "%s", pac_err_message())

#endif
