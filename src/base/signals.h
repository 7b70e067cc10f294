/* signals.h - SIGINT and SIGTERM as a flag that a loop polls.
 *
 * Only mains install it. The first of the two signals sets the flag and puts
 * back the default action of both, so a second one ends the process at once
 * (a shell then sees 130 resp. 143). System calls are restarted.
 */
#ifndef BN_BASE_SIGNALS_H
#define BN_BASE_SIGNALS_H

#include "base/status.h"

/* Installs, or installs again with the flag cleared. */
bn_status bn_signals_install(void) BN_MUST_CHECK;

/* 0, or the number of the signal that arrived. */
int bn_signals_received(void);

/* For loops that have nothing to save: BN_INTERRUPTED once one has arrived. */
bn_status bn_signals_poll(void) BN_MUST_CHECK;

#endif
