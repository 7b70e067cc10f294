/* watchdog.h - notices a step that never ends, as on a device that hangs.
 *
 * A thread looks at the clock; whoever makes steps tells it when one begins and
 * ends. Time in which the whole process stands still (stopped, suspended) does
 * not count.
 */
#ifndef BN_TRAIN_WATCHDOG_H
#define BN_TRAIN_WATCHDOG_H

#include <stdint.h>

#include "base/status.h"

/* Called from the watchdog's thread, once per step that takes too long. */
typedef void (*bn_watchdog_fn)(void *arg, int64_t step, double seconds);

typedef struct bn_watchdog bn_watchdog;

/* Calls fn(arg, step, seconds) when a step has lasted `seconds` > 0. */
bn_status bn_watchdog_new(double seconds, bn_watchdog_fn fn, void *arg,
                          bn_watchdog **out) BN_MUST_CHECK;
void bn_watchdog_free(bn_watchdog *watchdog); /* NULL is fine */

/* NULL is fine: nothing is watched. */
void bn_watchdog_begin(bn_watchdog *watchdog, int64_t step);
void bn_watchdog_end(bn_watchdog *watchdog);

#endif
