/*
 * Threads beside the one that trains: signals are for the main thread.
 */
#ifndef PAC_THREAD_H
#define PAC_THREAD_H

#include "pac/err.h"

#include <pthread.h>

/** Start run(user) with all signals blocked; the caller joins *thread. what: "the activation cache". Errors: PAC_ENOMEM. */
pac_err pac_thread_start(pthread_t *thread, void *(*run)(void *), void *user, const char *what);

#endif
