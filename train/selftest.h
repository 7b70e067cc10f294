/* selftest.h - a quick check that this build computes right on this machine.
 *
 * Three checks: every base-3 byte and ternary code survives packing; quantizers
 * and the integer product agree with the reference kernels (codes bit for bit,
 * results to 1e-6 relative); loss and gradient of a tiny model agree with them
 * (loss to 1e-4, gradient to 1 % of its norm: single codes may flip where
 * sums are rounded in another order).
 */
#ifndef BN_TRAIN_SELFTEST_H
#define BN_TRAIN_SELFTEST_H

#include "backend/backend.h"
#include "base/text.h"

/* Checks `backend`; appends one line per check to `report`. BN_MISMATCH names
 * the first check that failed and by how much. */
bn_status bn_selftest(bn_backend *backend, bn_text *report) BN_MUST_CHECK;

#endif
