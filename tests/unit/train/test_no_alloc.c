/* After warm-up a training step takes no memory: every allocation of this
 * program's code passes through the wrappers below (linked with --wrap). */
#include <stdlib.h>

#include "cpu/cpu.h"
#include "train_help.h"

static bool counting;
static int allocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
int __real_posix_memalign(void **out, size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);

static void note_allocation(void)
{
    if (counting)
        __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
}

void *__wrap_malloc(size_t size)
{
    note_allocation();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    note_allocation();
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    note_allocation();
    return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    note_allocation();
    return __real_aligned_alloc(align, size);
}

int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
    note_allocation();
    return __real_posix_memalign(out, align, size);
}

/* The wrappers see what the library allocates at all. */
static void test_wrappers_count(void **state)
{
    (void)state;
    bn_tape *tape;
    bn_backend *backend;
    assert_ok(bn_cpu_backend_new(NULL, &backend));
    allocations = 0;
    counting = true;
    assert_ok(bn_tape_new(backend, &tape));
    counting = false;
    assert_true(allocations > 0);
    bn_tape_free(tape);
    bn_backend_free(backend);
}

static void check_scheme(const char *scheme, const char *threads)
{
    bn_config config;
    bn_train_data data;
    bn_backend *backend;
    bn_trainer *trainer;
    bn_step_result result;
    help_config(&config, "unused", scheme, threads, "model.dropout=0.1",
                "training.gradient_accumulation_steps=2", NULL);
    assert_ok(bn_train_data_open(&config, &data));
    assert_ok(
        bn_cpu_backend_new(&(bn_cpu_options){.threads = (int)config.training.threads}, &backend));
    assert_ok(bn_trainer_new(&config, &data, backend, false, &trainer));
    assert_ok(bn_trainer_step(trainer, &result));
    allocations = 0;
    counting = true;
    bn_status status = BN_OK;
    for (int i = 0; i < 8 && status == BN_OK; i++)
        status = bn_trainer_step(trainer, &result);
    counting = false;
    assert_ok(status);
    if (allocations)
        fail_msg("%s: %d allocations in 8 steps", scheme, allocations);
    bn_trainer_free(trainer);
    bn_backend_free(backend);
    bn_train_data_clear(&data);
    bn_config_clear(&config);
}

static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    check_scheme("quantization.weight_scale=group", "training.threads=1");
    check_scheme("quantization.weight_scale=tensor", "training.threads=2");
    check_scheme("quantization.weight_bits=none", "training.threads=2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrappers_count),
        cmocka_unit_test(test_steps_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
