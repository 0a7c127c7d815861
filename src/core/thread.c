/* Starting a thread that takes no signals. */
#include "pac/thread.h"

#include <signal.h>
#include <string.h>

pac_err pac_thread_start(pthread_t *thread, void *(*run)(void *), void *user, const char *what)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, NULL, run, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    PAC_CHECK(failed == 0, PAC_ENOMEM, "no thread for %s: %s", what, strerror(failed));
    return PAC_OK;
}
