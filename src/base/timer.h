/* timer.h - elapsed time. */
#ifndef BN_BASE_TIMER_H
#define BN_BASE_TIMER_H

#include <time.h>

/* Seconds of a clock that never jumps; only differences mean something. */
static inline double bn_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
