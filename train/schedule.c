#include "train/schedule.h"

#include <math.h>

bn_schedule bn_schedule_of(const bn_config *config)
{
    return (bn_schedule){
        .kind = config->training.lr_scheduler,
        .total = config->training.max_steps,
        .warmup = config->training.warmup_steps,
        .shape = config->training.decay_shape,
        .decay = llround(config->training.decay_fraction * (double)config->training.max_steps),
        .learning_rate = config->training.learning_rate,
        .min_learning_rate = config->training.min_learning_rate,
    };
}

/* Share of the steps after warm-up that lie before `step`. */
static double progress(const bn_schedule *s, int64_t step)
{
    if (step <= s->warmup)
        return 0.0;
    return (double)(step - s->warmup) / (double)(s->total - s->warmup);
}

/* Share of the rate above the minimum that is left; 1 before the decay. */
static double decayed(const bn_schedule *s, int64_t step)
{
    const int64_t into = step - (s->total - s->decay) + 1;
    const double g = into > 0 ? (double)into / (double)(s->decay + 1) : 0.0;
    return 1.0 - (s->shape == BN_DECAY_SHAPE_LINEAR ? g : sqrt(g));
}

double bn_schedule_lr(const bn_schedule *s, int64_t step)
{
    const double pi = 3.14159265358979323846;
    const double lr = s->learning_rate, min = s->min_learning_rate;
    const double ramp = step + 1 < s->warmup ? (double)(step + 1) / (double)s->warmup : 1.0;
    double peak = lr;
    switch (s->kind) {
    case BN_LR_SCHEDULER_CONSTANT:
        return ramp * lr;
    case BN_LR_SCHEDULER_LINEAR:
        return ramp * (min + (lr - min) * (1.0 - progress(s, step)));
    case BN_LR_SCHEDULER_COSINE:
        return ramp * (min + (lr - min) * 0.5 * (1.0 + cos(pi * progress(s, step))));
    case BN_LR_SCHEDULER_TWO_STAGE:
        if (step >= s->total / 2)
            peak = fmax(lr * 2.0 / 3.0, min);
        return ramp * (min + (peak - min) * (1.0 - (double)step / (double)s->total));
    case BN_LR_SCHEDULER_WSD:
        return ramp * (min + (lr - min) * decayed(s, step));
    }
    return lr;
}

double bn_schedule_decay(const bn_schedule *s, int64_t step)
{
    bool second_stage = s->kind == BN_LR_SCHEDULER_TWO_STAGE && step >= s->total / 2;
    return second_stage ? 0.0 : 1.0;
}
