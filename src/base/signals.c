#include "base/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

/* A handler can reach nothing but an object of static storage. */
static atomic_int received;

static void on_signal(int number)
{
    int saved = errno;
    atomic_store(&received, number);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    errno = saved;
}

bn_status bn_signals_install(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    atomic_store(&received, 0);
    if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0)
        return bn_error(BN_FAIL, "signals: cannot install a handler: %s", strerror(errno));
    return BN_OK;
}

int bn_signals_received(void)
{
    return atomic_load(&received);
}

bn_status bn_signals_poll(void)
{
    return bn_signals_received() ? bn_error(BN_INTERRUPTED, "interrupted") : BN_OK;
}
