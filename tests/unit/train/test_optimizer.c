/* Updates of role blocks against closed forms, on every CPU backend. */
#include <math.h>
#include <string.h>

#include "cmocka_all.h"
#include "cpu/cpu.h"
#include "train/optimizer.h"

enum { ROWS = 3, COLS = 50, NORM = 7, N = ROWS * COLS + NORM };

typedef struct fixture {
    bn_backend *backend;
    bn_param_set params;
    bn_param *matrix, *norm;
    bn_buffer values, grads;
    bn_config config;
    bn_optimizer optimizer;
    float value[N], grad[N]; /* matrix, then norm */
} fixture;

static void open_fixture(fixture *f, bn_backend *backend)
{
    f->backend = backend;
    bn_param_set_init(&f->params, backend->real);
    assert_ok(
        bn_param_set_add(&f->params, "norm", BN_PARAM_NORM, 1, (const int64_t[]){NORM}, &f->norm));
    assert_ok(bn_param_set_add(&f->params, "matrix", BN_PARAM_LINEAR, 2,
                               (const int64_t[]){ROWS, COLS}, &f->matrix));
    assert_ok(bn_param_set_layout(&f->params));
    assert_ok(backend->alloc(backend, f->params.block_bytes, &f->values));
    assert_ok(backend->alloc(backend, f->params.block_bytes, &f->grads));
    bn_param_set_bind(&f->params, &f->values, &f->grads);
    assert_ok(bn_config_init(&f->config));
    for (int i = 0; i < N; i++) {
        f->value[i] = (float)(0.5 * sin(i));
        f->grad[i] = (float)cos(3 * i);
    }
    assert_ok(bn_backend_put_f32(backend, &f->matrix->value, f->value, ROWS * COLS));
    assert_ok(bn_backend_put_f32(backend, &f->norm->value, f->value + ROWS * COLS, NORM));
}

static void put_grads(fixture *f, double factor)
{
    float scaled[N];
    for (int i = 0; i < N; i++)
        scaled[i] = (float)(factor * (double)f->grad[i]);
    assert_ok(bn_backend_put_f32(f->backend, &f->matrix->grad, scaled, ROWS * COLS));
    assert_ok(bn_backend_put_f32(f->backend, &f->norm->grad, scaled + ROWS * COLS, NORM));
}

static void get_values(fixture *f, float *out)
{
    assert_ok(bn_backend_get_f32(f->backend, &f->matrix->value, out, ROWS * COLS));
    assert_ok(bn_backend_get_f32(f->backend, &f->norm->value, out + ROWS * COLS, NORM));
}

static void expect_values(fixture *f, const double *p, double within)
{
    float found[N];
    get_values(f, found);
    for (int i = 0; i < N; i++)
        if (!(fabs((double)found[i] - p[i]) <= within))
            fail_msg("%s: element %d is %.9g, expected %.9g", f->backend->name, i, (double)found[i],
                     p[i]);
}

static void close_fixture(fixture *f)
{
    bn_optimizer_clear(&f->optimizer);
    f->backend->release(f->backend, &f->values);
    f->backend->release(f->backend, &f->grads);
    bn_param_set_clear(&f->params);
    bn_config_clear(&f->config);
    bn_backend_free(f->backend);
}

static double norm_of(const fixture *f, double factor)
{
    double sum = 0.0;
    for (int i = 0; i < N; i++) {
        double g = (double)(float)(factor * (double)f->grad[i]);
        sum += g * g;
    }
    return sqrt(sum);
}

/* Three updates with clipping in the second and third, and decay that ends
 * with the third. */
static void check_three_steps(bn_backend *backend)
{
    static const double factors[] = {0.01, 1.0, 0.5}, rates[] = {1e-2, 2e-2, 5e-3},
                        decays[] = {1.0, 1.0, 0.0};
    fixture f = {0};
    double p[N], m[N] = {0}, v[N] = {0};
    open_fixture(&f, backend);
    assert_ok(bn_optimizer_init(&f.optimizer, &f.config, backend, &f.params, &f.values, &f.grads));
    for (int i = 0; i < N; i++)
        p[i] = (double)f.value[i];
    for (int t = 1; t <= 3; t++) {
        const double factor = factors[t - 1], lr = rates[t - 1], norm = norm_of(&f, factor);
        const double c = norm > 1.0 ? 1.0 / (norm + 1e-6) : 1.0;
        double measured;
        put_grads(&f, factor);
        assert_ok(bn_optimizer_step(&f.optimizer, lr, decays[t - 1]));
        assert_ok(bn_optimizer_norm(&f.optimizer, &measured));
        assert_true(fabs(measured - norm) <= 1e-6 * norm);
        for (int i = 0; i < N; i++) {
            const double g = c * (double)(float)(factor * (double)f.grad[i]);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            p[i] -= lr * (i < ROWS * COLS ? 0.1 * decays[t - 1] : 0.0) * p[i];
            p[i] -= lr / (1 - pow(0.9, t)) * m[i] / (sqrt(v[i] / (1 - pow(0.95, t))) + 1e-8);
        }
    }
    assert_int_equal(f.optimizer.step, 3);
    expect_values(&f, p, 2e-6);
    close_fixture(&f);
}

static void test_three_steps(void **state)
{
    (void)state;
    bn_backend *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &backend));
    check_three_steps(backend);
    assert_ok(bn_ref_backend_new(BN_F64, &backend));
    check_three_steps(backend);
    assert_ok(bn_cpu_backend_new(NULL, &backend));
    check_three_steps(backend);
}

static void test_no_clipping(void **state)
{
    (void)state;
    fixture f = {0};
    bn_backend *backend;
    float found[N];
    assert_ok(bn_ref_backend_new(BN_F64, &backend));
    open_fixture(&f, backend);
    assert_ok(bn_config_set(&f.config, "training.grad_clip=0"));
    assert_ok(bn_optimizer_init(&f.optimizer, &f.config, backend, &f.params, &f.values, &f.grads));
    put_grads(&f, 1000.0);
    assert_ok(bn_optimizer_step(&f.optimizer, 1e-3, 0.0));
    get_values(&f, found);
    /* The first step of Adam moves every element by lr, whatever the gradient. */
    for (int i = 0; i < N; i++)
        assert_true(fabs(fabs((double)(found[i] - f.value[i])) - 1e-3) < 1e-6);
    close_fixture(&f);
}

/* Three steps of torch.optim.SGD, the last without decay, with and without
 * Nesterov's momentum; there are no second moments. */
static void check_sgd(bn_backend *backend, bool nesterov)
{
    static const double factors[] = {0.01, 1.0, 0.5}, rates[] = {0.1, 0.2, 0.05},
                        decays[] = {1.0, 1.0, 0.0};
    fixture f = {0};
    double p[N], m[N] = {0};
    open_fixture(&f, backend);
    assert_ok(bn_config_set(&f.config, "training.optimizer=sgd"));
    assert_ok(bn_config_set(&f.config, "training.sgd_momentum=0.8"));
    assert_ok(bn_config_set(&f.config, "training.weight_decay=0.02"));
    f.config.training.sgd_nesterov = nesterov;
    assert_ok(bn_optimizer_init(&f.optimizer, &f.config, backend, &f.params, &f.values, &f.grads));
    assert_int_equal(bn_optimizer_bytes(&f.config, &f.params).moments, f.params.block_bytes);
    for (int i = 0; i < f.params.count; i++)
        assert_false(bn_tensor_present(&f.optimizer.moments[i].v.values));
    for (int i = 0; i < N; i++)
        p[i] = (double)f.value[i];
    for (int t = 0; t < 3; t++) {
        const double norm = norm_of(&f, factors[t]), c = norm > 1.0 ? 1.0 / (norm + 1e-6) : 1.0;
        put_grads(&f, factors[t]);
        assert_ok(bn_optimizer_step(&f.optimizer, rates[t], decays[t]));
        for (int i = 0; i < N; i++) {
            const double decay = i < ROWS * COLS ? 0.02 * decays[t] : 0.0;
            const double g = c * (double)(float)(factors[t] * (double)f.grad[i]) + decay * p[i];
            m[i] = 0.8 * m[i] + g;
            p[i] -= rates[t] * (nesterov ? g + 0.8 * m[i] : m[i]);
        }
    }
    expect_values(&f, p, 5e-7);
    close_fixture(&f);
}

static void test_sgd(void **state)
{
    (void)state;
    for (int nesterov = 0; nesterov <= 1; nesterov++) {
        bn_backend *backend;
        assert_ok(bn_ref_backend_new(BN_F32, &backend));
        check_sgd(backend, nesterov);
        assert_ok(bn_ref_backend_new(BN_F64, &backend));
        check_sgd(backend, nesterov);
        assert_ok(bn_cpu_backend_new(NULL, &backend));
        check_sgd(backend, nesterov);
    }
}

/* Two steps of Muon on a matrix with one element per row and column at most: the
 * elements are its singular values then, and Newton-Schulz is a polynomial of
 * each. The other parameters follow AdamW. */
static void check_muon(bn_backend *backend, int64_t rows, int64_t cols)
{
    enum { SIDE = 3, LONG = 50 };
    const double lr = 4e-3, share = lr / 1.5e-3; /* of the default learning_rate */
    bn_param_set params;
    bn_param *matrix, *other;
    bn_buffer values, grads;
    bn_config config;
    bn_optimizer o;
    float grad[SIDE * LONG] = {0}, zero[SIDE * LONG] = {0}, found[SIDE * LONG], one = 1.0f;
    double m[SIDE] = {0}, p[SIDE] = {0};
    int64_t at[SIDE];
    bn_param_set_init(&params, backend->real);
    assert_ok(
        bn_param_set_add(&params, "other", BN_PARAM_EMBEDDING, 2, (const int64_t[]){1, 1}, &other));
    assert_ok(bn_param_set_add(&params, "matrix", BN_PARAM_LINEAR, 2, (const int64_t[]){rows, cols},
                               &matrix));
    matrix->hidden = true;
    assert_ok(bn_param_set_layout(&params));
    assert_int_equal(matrix->offset, 0);
    assert_int_equal(other->offset, params.hidden_bytes);
    assert_ok(backend->alloc(backend, params.block_bytes, &values));
    assert_ok(backend->alloc(backend, params.block_bytes, &grads));
    bn_param_set_bind(&params, &values, &grads);
    assert_ok(bn_config_init(&config));
    assert_ok(bn_config_set(&config, "training.optimizer=muon"));
    assert_ok(bn_config_set(&config, "training.muon_weight_decay=0.5"));
    assert_ok(bn_optimizer_init(&o, &config, backend, &params, &values, &grads));
    assert_int_equal(bn_optimizer_bytes(&config, &params).moments,
                     2 * params.block_bytes - params.hidden_bytes);
    assert_true(bn_tensor_present(&o.moments[0].v.values));
    assert_false(bn_tensor_present(&o.moments[1].v.values));
    assert_ok(bn_backend_put_f32(backend, &matrix->value, zero, SIDE * LONG));
    for (int i = 0; i < SIDE; i++)
        at[i] = rows < cols ? i * cols + 7 * i : 7 * i * cols + i;
    for (int t = 1; t <= 2; t++) {
        double x[SIDE], norm = 0.0, length = 0.0;
        for (int i = 0; i < SIDE; i++) {
            /* Of another direction each time: momentum looks ahead. */
            grad[at[i]] = (float)((i + 1) * (i == t ? -1 : 1) * t);
            length += (double)grad[at[i]] * (double)grad[at[i]];
        }
        const double c = 1.0 / (sqrt(length + 1.0) + 1e-6); /* `other` is in the norm */
        for (int i = 0; i < SIDE; i++) {
            m[i] = 0.95 * m[i] + 0.05 * c * (double)grad[at[i]];
            x[i] = 0.95 * m[i] + 0.05 * c * (double)grad[at[i]];
            norm += x[i] * x[i];
        }
        for (int i = 0; i < SIDE; i++) {
            double s = x[i] / (sqrt(norm) + 1e-7);
            for (int k = 0; k < 5; k++)
                s = 3.4445 * s - 4.7750 * pow(s, 3) + 2.0315 * pow(s, 5);
            p[i] -= 0.02 * share * (t == 1 ? 0.5 : 0.0) * p[i];
            p[i] -= 0.02 * share * sqrt(rows > cols ? (double)rows / (double)cols : 1.0) * s;
        }
        assert_ok(bn_backend_put_f32(backend, &matrix->grad, grad, SIDE * LONG));
        assert_ok(bn_backend_put_f32(backend, &other->grad, &one, 1));
        assert_ok(bn_optimizer_step(&o, lr, t == 1 ? 1.0 : 0.0));
    }
    assert_ok(bn_backend_get_f32(backend, &matrix->value, found, SIDE * LONG));
    for (int i = 0; i < SIDE; i++) {
        if (!(fabs((double)found[at[i]] - p[i]) <= 2e-6))
            fail_msg("%s: singular value %d is %.9g, expected %.9g", backend->name, i,
                     (double)found[at[i]], p[i]);
        found[at[i]] = 0.0f;
    }
    for (int i = 0; i < SIDE * LONG; i++)
        assert_true(fabs((double)found[i]) < 1e-7);
    assert_ok(bn_backend_get_f32(backend, &other->value, found, 1));
    assert_true(fabs(fabs((double)found[0]) - 2 * lr) < 1e-3); /* Adam's first steps */
    bn_optimizer_clear(&o);
    backend->release(backend, &values);
    backend->release(backend, &grads);
    bn_param_set_clear(&params);
    bn_config_clear(&config);
    bn_backend_free(backend);
}

static void test_muon(void **state)
{
    (void)state;
    for (int tall = 0; tall <= 1; tall++) {
        const int64_t rows = tall ? 50 : 3, cols = tall ? 3 : 50;
        bn_backend *backend;
        assert_ok(bn_ref_backend_new(BN_F32, &backend));
        check_muon(backend, rows, cols);
        assert_ok(bn_ref_backend_new(BN_F64, &backend));
        check_muon(backend, rows, cols);
        assert_ok(bn_cpu_backend_new(NULL, &backend));
        check_muon(backend, rows, cols);
    }
}

enum { CODED_ROWS = 70, CODED = CODED_ROWS * 64 }; /* ends in a block of 128 */

static void decoded(bn_backend *backend, const bn_optimizer *o, int k, double *out)
{
    static uint8_t codes[CODED];
    static float values[CODED], absmax[CODED / BN_DYNAMIC8_BLOCK + 1];
    const bn_moment *moment = k == 0 ? &o->moments[1].m : &o->moments[1].v;
    assert_ok(backend->download(backend, &moment->values, codes));
    assert_ok(backend->download(backend, &moment->absmax, absmax));
    for (int64_t at = 0; at < CODED; at += BN_DYNAMIC8_BLOCK)
        bn_dynamic8_decode(&o->maps[k], CODED - at < BN_DYNAMIC8_BLOCK ? CODED - at : 256,
                           codes + at, absmax[at / BN_DYNAMIC8_BLOCK], values + at);
    for (int i = 0; i < CODED; i++)
        out[i] = (double)values[i];
}

/* Three steps of AdamW in 8 bits: each is the float64 update of the decoded moments,
 * and what it keeps is as near to the new ones as the map allows: half a hundredth
 * and half a part of the lowest decade of the block's largest. A norm's moments and
 * those of a small matrix are reals. */
static void check_adamw8bit(bn_backend *backend)
{
    static double p[CODED], m[2][CODED], kept[2][CODED];
    static float value[CODED], grad[CODED];
    static const char *const names[] = {"norm", "matrix", "small"};
    bn_param_set params;
    bn_param *all[3];
    bn_buffer values, grads;
    bn_config config;
    bn_optimizer o;
    const double lr = 1e-2;
    memset(kept, 0, sizeof kept);
    bn_param_set_init(&params, backend->real);
    assert_ok(bn_param_set_add(&params, names[0], BN_PARAM_NORM, 1, (const int64_t[]){7}, &all[0]));
    for (int i = 1; i < 3; i++)
        assert_ok(bn_param_set_add(&params, names[i], BN_PARAM_LINEAR, 2,
                                   (const int64_t[]){i == 1 ? CODED_ROWS : 63, 64}, &all[i]));
    assert_ok(bn_param_set_layout(&params));
    assert_ok(backend->alloc(backend, params.block_bytes, &values));
    assert_ok(backend->alloc(backend, params.block_bytes, &grads));
    bn_param_set_bind(&params, &values, &grads);
    assert_ok(bn_config_init(&config));
    assert_ok(bn_config_set(&config, "training.optimizer=adamw8bit"));
    assert_ok(bn_config_set(&config, "training.grad_clip=0"));
    assert_ok(bn_optimizer_init(&o, &config, backend, &params, &values, &grads));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bn_tensor_present(&o.moments[i].m.absmax), i == 1);
        assert_int_equal(o.moments[i].v.values.dtype, i == 1 ? BN_U8 : backend->real);
    }
    for (int i = 0; i < CODED; i++)
        p[i] = (double)(value[i] = (float)sin(i));
    assert_ok(bn_backend_put_f32(backend, &all[1]->value, value, CODED));
    for (int t = 1; t <= 3; t++) {
        for (int i = 0; i < CODED; i++)
            grad[i] = (float)(cos(3 * i + t) * pow(10.0, -(i % 5)));
        assert_ok(bn_backend_put_f32(backend, &all[1]->grad, grad, CODED));
        assert_ok(bn_backend_put_f32(backend, &all[0]->grad, grad, 7));
        assert_ok(bn_optimizer_step(&o, lr, t == 3 ? 0.0 : 1.0));
        double most[2][CODED / BN_DYNAMIC8_BLOCK + 1] = {{0}};
        for (int i = 0; i < CODED; i++) {
            const double g = (double)grad[i];
            m[0][i] = 0.9 * kept[0][i] + 0.1 * g;
            m[1][i] = 0.95 * kept[1][i] + 0.05 * g * g;
            p[i] -= lr * (t == 3 ? 0.0 : 0.1) * p[i];
            p[i] -= lr / (1 - pow(0.9, t)) * m[0][i] / (sqrt(m[1][i] / (1 - pow(0.95, t))) + 1e-8);
            for (int k = 0; k < 2; k++)
                most[k][i / BN_DYNAMIC8_BLOCK] =
                    fmax(most[k][i / BN_DYNAMIC8_BLOCK], fabs(m[k][i]));
        }
        for (int k = 0; k < 2; k++) {
            decoded(backend, &o, k, kept[k]);
            for (int i = 0; i < CODED; i++) {
                const double block = most[k][i / BN_DYNAMIC8_BLOCK];
                /* A decade of least 10^-d of the block has 2^(7-d) parts or more. */
                const double share = fabs(m[k][i]) / block, d = ceil(-log10(fmax(share, 1e-7)));
                const double part = 9 * pow(10, -fmax(d, 1)) / pow(2, 7 - fmax(d, 1));
                if (!(fabs(kept[k][i] - m[k][i]) <= block * 0.51 * part))
                    fail_msg("%s: moment %d[%d] is %.9g, kept as %.9g", backend->name, k + 1, i,
                             m[k][i], kept[k][i]);
            }
        }
    }
    assert_ok(bn_backend_get_f32(backend, &all[1]->value, value, CODED));
    for (int i = 0; i < CODED; i++)
        if (!(fabs((double)value[i] - p[i]) <= 1e-6))
            fail_msg("%s: element %d is %.9g, expected %.9g", backend->name, i, (double)value[i],
                     p[i]);
    assert_ok(bn_backend_get_f32(backend, &all[0]->value, value, 7));
    for (int i = 0; i < 7; i++)
        assert_true(value[i] != 0.0f); /* trained too */
    bn_optimizer_clear(&o);
    backend->release(backend, &values);
    backend->release(backend, &grads);
    bn_param_set_clear(&params);
    bn_config_clear(&config);
    bn_backend_free(backend);
}

static void test_adamw8bit(void **state)
{
    (void)state;
    bn_backend *backend;
    assert_ok(bn_ref_backend_new(BN_F32, &backend));
    check_adamw8bit(backend);
    assert_ok(bn_ref_backend_new(BN_F64, &backend));
    check_adamw8bit(backend);
    assert_ok(bn_cpu_backend_new(NULL, &backend));
    check_adamw8bit(backend);
}

/* Padding between parameters stays zero: norms and checkpoints rely on it. */
static void test_padding_and_zero_grad(void **state)
{
    (void)state;
    fixture f = {0};
    bn_backend *backend;
    assert_ok(bn_cpu_backend_new(NULL, &backend));
    open_fixture(&f, backend);
    assert_ok(bn_optimizer_init(&f.optimizer, &f.config, backend, &f.params, &f.values, &f.grads));
    put_grads(&f, 1.0);
    assert_ok(bn_optimizer_step(&f.optimizer, 1e-2, 1.0));
    const float *values = f.values.host;
    const size_t count = f.params.block_bytes / sizeof *values;
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += values[i] != 0.0f;
    assert_true(used <= N);
    assert_ok(bn_optimizer_zero_grad(&f.optimizer));
    const float *grads = f.grads.host;
    for (size_t i = 0; i < count; i++)
        assert_true(grads[i] == 0.0f);
    assert_ptr_equal(f.params.items[0], f.norm);
    const bn_tensor m = f.optimizer.moments[0].m.values;
    assert_true(bn_tensor_same_shape(&m, &f.norm->value));
    float m_norm[NORM];
    assert_ok(bn_backend_get_f32(backend, &m, m_norm, NORM));
    for (int i = 0; i < NORM; i++)
        assert_true(fabs((double)m_norm[i]) > 0.0);
    close_fixture(&f);
}

/* What a backend cannot do leaves nothing behind. */
static void test_refused(void **state)
{
    (void)state;
    bn_backend *backend;
    bn_config config;
    bn_param_set params;
    bn_optimizer optimizer = {.step = 1};
    const bn_buffer none = {0};
    assert_ok(bn_ref_backend_new(BN_F32, &backend));
    backend->muon = NULL;
    assert_ok(bn_config_init(&config));
    assert_ok(bn_config_set(&config, "training.optimizer=muon"));
    bn_param_set_init(&params, BN_F32);
    assert_int_equal(bn_optimizer_init(&optimizer, &config, backend, &params, &none, &none),
                     BN_BAD_CONFIG);
    assert_null(optimizer.backend);
    assert_int_equal(optimizer.step, 0);
    bn_param_set_clear(&params);
    bn_config_clear(&config);
    bn_backend_free(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_steps),
        cmocka_unit_test(test_no_clipping),
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_muon),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_adamw8bit),
        cmocka_unit_test(test_padding_and_zero_grad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
