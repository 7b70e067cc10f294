#include "train/watchdog.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The clock is looked at so often within `seconds`. */
enum { LOOKS = 20 };

struct bn_watchdog {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bn_watchdog_fn fn;
    void *arg;
    double seconds;
    int64_t step;
    int looks; /* at this step; -1: none is being made */
    bool over;
};

static struct timespec in(double seconds)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    const double whole = floor(seconds);
    at.tv_sec += (time_t)whole;
    at.tv_nsec += (long)((seconds - whole) * 1e9);
    if (at.tv_nsec >= 1000000000L) {
        at.tv_nsec -= 1000000000L;
        at.tv_sec++;
    }
    return at;
}

/* However late a look comes, it counts for one. */
static void *watch(void *arg)
{
    bn_watchdog *w = arg;
    pthread_mutex_lock(&w->mutex);
    while (!w->over) {
        const struct timespec at = in(w->seconds / LOOKS);
        if (pthread_cond_timedwait(&w->wake, &w->mutex, &at) != ETIMEDOUT || w->looks < 0)
            continue;
        if (++w->looks == LOOKS) {
            const int64_t step = w->step;
            pthread_mutex_unlock(&w->mutex);
            w->fn(w->arg, step, w->seconds);
            pthread_mutex_lock(&w->mutex);
        }
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

bn_status bn_watchdog_new(double seconds, bn_watchdog_fn fn, void *arg, bn_watchdog **out)
{
    pthread_condattr_t monotonic;
    *out = NULL;
    bn_watchdog *w = calloc(1, sizeof *w);
    if (!w)
        return bn_error_nomem("the watchdog", sizeof *w);
    w->fn = fn;
    w->arg = arg;
    w->seconds = seconds;
    w->looks = -1;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    const int error = pthread_create(&w->thread, NULL, watch, w);
    if (error) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->mutex);
        free(w);
        return bn_error(BN_FAIL, "cannot start the watchdog's thread: %s", strerror(error));
    }
    *out = w;
    return BN_OK;
}

void bn_watchdog_free(bn_watchdog *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->over = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

static void set(bn_watchdog *w, int64_t step, int looks)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->step = step;
    w->looks = looks;
    pthread_mutex_unlock(&w->mutex);
}

void bn_watchdog_begin(bn_watchdog *w, int64_t step)
{
    set(w, step, 0);
}

void bn_watchdog_end(bn_watchdog *w)
{
    set(w, 0, -1);
}
