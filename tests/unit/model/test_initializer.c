/* model.initializer: what orthogonal changes, and what it leaves alone. */
#include <math.h>
#include <string.h>

#include "model_fixture.h"

/* (w w^T)[i,k], or (w^T w)[i,k] of a tall matrix. */
static double gram(const bn_checkpoint_param *p, int64_t i, int64_t k)
{
    const int64_t rows = p->shape[0], cols = p->shape[1];
    double sum = 0;
    for (int64_t j = 0; j < (rows < cols ? cols : rows); j++)
        sum += rows < cols ? (double)p->value[i * cols + j] * (double)p->value[k * cols + j]
                           : (double)p->value[j * cols + i] * (double)p->value[j * cols + k];
    return sum;
}

static void check_orthogonal(const bn_checkpoint_param *p, double range)
{
    const int64_t rows = p->shape[0], cols = p->shape[1];
    const int64_t least = rows < cols ? rows : cols, most = rows < cols ? cols : rows;
    const double wanted = range * range * (double)most;
    for (int64_t i = 0; i < least; i++)
        for (int64_t k = 0; k <= i; k++)
            if (!(fabs(gram(p, i, k) - (i == k ? wanted : 0)) < 1e-6 * wanted))
                fail_msg("%s: %lld, %lld: %g", p->name, (long long)i, (long long)k, gram(p, i, k));
}

static void test_orthogonal(void **state)
{
    fixture normal, orthogonal;
    int count, matrices = 0;
    (void)state;
    fixture_open(&normal, NULL);
    fixture_open(&orthogonal, "model.initializer=orthogonal");
    bn_checkpoint_param *before = fixture_params(normal.model, &count);
    bn_checkpoint_param *after = fixture_params(orthogonal.model, &count);
    for (int i = 0; i < count; i++) {
        if (strstr(after[i].name, "_proj.weight")) {
            check_orthogonal(&after[i], normal.config.model.initializer_range);
            matrices++;
        } else {
            const bn_tensor *t = &normal.model->params.items[i]->value;
            assert_memory_equal(before[i].value, after[i].value,
                                (size_t)bn_tensor_numel(t) * sizeof(float));
        }
    }
    assert_int_equal(matrices, 14);
    fixture_params_free(before, count);
    fixture_params_free(after, count);
    fixture_close(&normal);
    fixture_close(&orthogonal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_orthogonal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
