/* schedule.h - learning rate of every step, and the share of weight decay.
 *
 * With s the step from 0, T the steps of the run, W the warm-up steps, lr and
 * min the configured rates, ramp = min(1, (s+1)/W) and
 * f = max(0, s-W)/(T-W), the share of the run after warm-up that is over:
 *
 *   constant   ramp * lr
 *   linear     ramp * (min + (lr-min) (1-f))
 *   cosine     ramp * (min + (lr-min) (1 + cos(pi f))/2)
 *   two-stage  ramp * (min + (p-min) (1-s/T)),  p = lr for s < floor(T/2), then
 *              2/3 lr (at least min); no weight decay from floor(T/2) on
 *              ("The Era of 1-bit LLMs: Training Tips, Code and FAQ", 2024)
 *
 *   wsd        ramp * lr until the last D = round(decay_fraction T) steps, then
 *              min + (lr-min) d(g), g = (s-(T-D)+1)/(D+1), d = 1-g or 1-sqrt(g)
 *              (warm-up, stable, decay; Haegele et al., arXiv 2405.18392)
 *
 * All but constant come down to `min` at the end of the run. Pure functions.
 */
#ifndef BN_TRAIN_SCHEDULE_H
#define BN_TRAIN_SCHEDULE_H

#include "config/config.h"

typedef struct bn_schedule {
    bn_cfg_lr_scheduler kind;
    bn_cfg_decay_shape shape;
    int64_t total, warmup, decay;
    double learning_rate, min_learning_rate;
} bn_schedule;

bn_schedule bn_schedule_of(const bn_config *config);

/* 0 <= step < total */
double bn_schedule_lr(const bn_schedule *schedule, int64_t step);
double bn_schedule_decay(const bn_schedule *schedule, int64_t step); /* 0 or 1 */

#endif
