/* health.h - whether a run still learns: loss spikes, dead and stuck layers.
 *
 * A step is a spike if its loss lies more than `threshold` robust deviations
 * above the median of the last BN_HEALTH_WINDOW losses. The deviation is 1.4826
 * times the median distance from the median (that of a normal distribution), at
 * least 1 % of the median. Spikes enter the window too: a new level is normal
 * after half a window. The window belongs into checkpoints, so that a resumed
 * run judges as an undisturbed one.
 */
#ifndef BN_TRAIN_HEALTH_H
#define BN_TRAIN_HEALTH_H

#include "base/text.h"
#include "train/telemetry.h"

enum {
    BN_HEALTH_WINDOW = 64, /* losses that are kept */
    BN_HEALTH_ENOUGH = 16, /* fewer are no measure */
};

typedef struct bn_loss_window {
    double losses[BN_HEALTH_WINDOW];
    int64_t count; /* seen so far; the next goes to count % BN_HEALTH_WINDOW */
} bn_loss_window;

/* Largest loss that is no spike; +infinity while there is no measure.
 * `threshold` 0: no loss is one. *median may be NULL. */
double bn_loss_limit(const bn_loss_window *window, double threshold, double *median);
void bn_loss_window_add(bn_loss_window *window, double loss);

/* What has been told of each layer. */
typedef struct bn_layer_health {
    int count;
    int *still; /* measurements in a row without a flipped code */
    bool *told;
} bn_layer_health;

bn_status bn_layer_health_init(bn_layer_health *out, int layers) BN_MUST_CHECK;
void bn_layer_health_clear(bn_layer_health *health); /* {0} is fine */

/* After a measurement: adds to `out` one line for each layer that is dead (at
 * least 99 % of its codes are 0) or stuck (no code has changed over three
 * measurements although `learning`), once per layer. */
void bn_layer_health_check(bn_layer_health *health, const bn_telemetry *telemetry, bool learning,
                           bn_strings *out);

#endif
