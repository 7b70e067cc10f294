/* Learning rates and weight decay against closed forms. */
#include <math.h>

#include "cmocka_all.h"
#include "train/schedule.h"

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-15 * fmax(1.0, fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

static bn_schedule make(bn_cfg_lr_scheduler kind, int64_t total, int64_t warmup, double min)
{
    return (bn_schedule){.kind = kind,
                         .total = total,
                         .warmup = warmup,
                         .learning_rate = 3e-3,
                         .min_learning_rate = min};
}

static void test_constant(void **state)
{
    (void)state;
    bn_schedule s = make(BN_LR_SCHEDULER_CONSTANT, 100, 10, 1e-3);
    near(bn_schedule_lr(&s, 0), 3e-4);
    near(bn_schedule_lr(&s, 4), 1.5e-3);
    near(bn_schedule_lr(&s, 9), 3e-3);
    near(bn_schedule_lr(&s, 10), 3e-3);
    near(bn_schedule_lr(&s, 99), 3e-3);
    near(bn_schedule_decay(&s, 99), 1.0);
}

static void test_linear(void **state)
{
    (void)state;
    bn_schedule s = make(BN_LR_SCHEDULER_LINEAR, 110, 10, 1e-3);
    near(bn_schedule_lr(&s, 1), 6e-4);
    near(bn_schedule_lr(&s, 10), 3e-3);
    near(bn_schedule_lr(&s, 60), 2e-3);
    near(bn_schedule_lr(&s, 85), 1.5e-3);
    near(bn_schedule_lr(&s, 109), 1e-3 + 2e-3 * 0.01);
    near(bn_schedule_decay(&s, 60), 1.0);
}

static void test_cosine(void **state)
{
    (void)state;
    bn_schedule s = make(BN_LR_SCHEDULER_COSINE, 120, 0, 0.0);
    near(bn_schedule_lr(&s, 0), 3e-3);
    near(bn_schedule_lr(&s, 40), 3e-3 * 0.75); /* (1 + cos 60 deg)/2 */
    near(bn_schedule_lr(&s, 60), 1.5e-3);
    near(bn_schedule_lr(&s, 80), 3e-3 * 0.25);
    s.min_learning_rate = 1e-3;
    near(bn_schedule_lr(&s, 60), 2e-3);
}

/* p * min(1, (s+1)/W) * (1 - s/T), p = lr, then 2/3 lr. */
static void test_two_stage(void **state)
{
    (void)state;
    bn_schedule s = make(BN_LR_SCHEDULER_TWO_STAGE, 500, 25, 0.0);
    near(bn_schedule_lr(&s, 0), 3e-3 / 25);
    near(bn_schedule_lr(&s, 9), 3e-3 * 0.4 * (1 - 9.0 / 500));
    near(bn_schedule_lr(&s, 24), 3e-3 * (1 - 24.0 / 500));
    near(bn_schedule_lr(&s, 249), 3e-3 * (1 - 249.0 / 500));
    near(bn_schedule_lr(&s, 250), 2e-3 * 0.5);
    near(bn_schedule_lr(&s, 499), 2e-3 / 500);
    near(bn_schedule_decay(&s, 249), 1.0);
    near(bn_schedule_decay(&s, 250), 0.0);
    near(bn_schedule_decay(&s, 499), 0.0);
}

static void test_two_stage_edges(void **state)
{
    (void)state;
    bn_schedule odd = make(BN_LR_SCHEDULER_TWO_STAGE, 5, 0, 0.0);
    near(bn_schedule_lr(&odd, 1), 3e-3 * 0.8);
    near(bn_schedule_lr(&odd, 2), 2e-3 * 0.6); /* half of 5, rounded down */
    near(bn_schedule_decay(&odd, 1), 1.0);
    near(bn_schedule_decay(&odd, 2), 0.0);
    bn_schedule high = make(BN_LR_SCHEDULER_TWO_STAGE, 10, 0, 2.5e-3);
    near(bn_schedule_lr(&high, 5), 2.5e-3); /* 2/3 lr would be below the minimum */
    near(bn_schedule_lr(&high, 0), 3e-3);
    bn_schedule one = make(BN_LR_SCHEDULER_TWO_STAGE, 1, 1, 0.0);
    near(bn_schedule_lr(&one, 0), 2e-3);
}

static void test_wsd(void **state)
{
    (void)state;
    bn_schedule s = make(BN_LR_SCHEDULER_WSD, 100, 10, 1e-3);
    s.decay = 24;
    s.shape = BN_DECAY_SHAPE_LINEAR;
    near(bn_schedule_lr(&s, 4), 1.5e-3);
    near(bn_schedule_lr(&s, 10), 3e-3);
    near(bn_schedule_lr(&s, 75), 3e-3);
    near(bn_schedule_lr(&s, 76), 1e-3 + 2e-3 * (1 - 1.0 / 25));
    near(bn_schedule_lr(&s, 99), 1e-3 + 2e-3 * (1 - 24.0 / 25));
    s.shape = BN_DECAY_SHAPE_ONE_MINUS_SQRT;
    near(bn_schedule_lr(&s, 75), 3e-3);
    near(bn_schedule_lr(&s, 79), 1e-3 + 2e-3 * (1 - 0.4)); /* sqrt(4/25) */
    near(bn_schedule_lr(&s, 91), 1e-3 + 2e-3 * (1 - 0.8));
    near(bn_schedule_decay(&s, 99), 1.0);
    s.decay = 0; /* never falls */
    near(bn_schedule_lr(&s, 99), 3e-3);
}

/* Float, then three steps of each shape, then all of it. */
static void test_strength(void **state)
{
    static const struct {
        const char *shape;
        double at[3];
    } cases[] = {
        {"quantization.ramp_shape=linear", {0.25, 0.5, 0.75}},
        {"quantization.ramp_shape=cosine", {0.14644660940672624, 0.5, 0.8535533905932737}},
        {"quantization.ramp_shape=sigmoid", {0.04517665973091212, 0.5, 0.9548233402690879}},
    };
    (void)state;
    bn_config config;
    assert_ok(bn_config_init(&config));
    near(bn_config_strength(&config, 0), 1.0);
    assert_ok(bn_config_set(&config, "training.max_steps=17"));
    assert_ok(bn_config_set(&config, "quantization.warmup_fraction=0.25")); /* 4.25 steps */
    near(bn_config_strength(&config, 3), 0.0);
    near(bn_config_strength(&config, 4), 1.0);
    assert_ok(bn_config_set(&config, "quantization.ramp_steps=3"));
    for (int k = 0; k < 3; k++) {
        assert_ok(bn_config_set(&config, cases[k].shape));
        near(bn_config_strength(&config, 0), 0.0);
        near(bn_config_strength(&config, 3), 0.0);
        for (int i = 0; i < 3; i++)
            near(bn_config_strength(&config, 4 + i), cases[k].at[i]);
        near(bn_config_strength(&config, 7), 1.0);
    }
    assert_ok(bn_config_set(&config, "quantization.weight_bits=none")); /* nothing to bring in */
    near(bn_config_strength(&config, 0), 1.0);
    bn_config_clear(&config);
}

/* A warm-up longer than the run only ever rises. */
static void test_warmup_longer_than_run(void **state)
{
    (void)state;
    const bn_cfg_lr_scheduler kinds[] = {BN_LR_SCHEDULER_CONSTANT, BN_LR_SCHEDULER_LINEAR,
                                         BN_LR_SCHEDULER_COSINE};
    for (int k = 0; k < 3; k++) {
        bn_schedule s = make(kinds[k], 10, 40, 0.0);
        for (int64_t step = 0; step < 10; step++)
            near(bn_schedule_lr(&s, step), 3e-3 * (double)(step + 1) / 40);
    }
}

static void test_from_config(void **state)
{
    (void)state;
    bn_config config;
    assert_ok(bn_config_init(&config));
    assert_ok(bn_config_set(&config, "training.max_steps=77"));
    assert_ok(bn_config_set(&config, "training.warmup_steps=7"));
    assert_ok(bn_config_set(&config, "training.lr_scheduler=cosine"));
    assert_ok(bn_config_set(&config, "training.learning_rate=0.5"));
    assert_ok(bn_config_set(&config, "training.min_learning_rate=0.25"));
    bn_schedule s = bn_schedule_of(&config);
    assert_int_equal(s.kind, BN_LR_SCHEDULER_COSINE);
    assert_int_equal(s.total, 77);
    assert_int_equal(s.warmup, 7);
    near(s.learning_rate, 0.5);
    near(s.min_learning_rate, 0.25);
    bn_config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant),        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_cosine),          cmocka_unit_test(test_two_stage),
        cmocka_unit_test(test_two_stage_edges), cmocka_unit_test(test_warmup_longer_than_run),
        cmocka_unit_test(test_from_config),     cmocka_unit_test(test_wsd),
        cmocka_unit_test(test_strength),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
