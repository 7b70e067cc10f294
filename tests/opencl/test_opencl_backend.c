/* The device layer: choice of a device, memory, transfers, errors of kernels
 * and of the driver, and the cache of compiled programs. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/op_instance.h"
#include "base/fs.h"
#include "opencl/opencl.h"

static bn_backend *open_default(void)
{
    bn_backend *backend;
    assert_ok(bn_opencl_backend_new(NULL, NULL, &backend));
    return backend;
}

/* ---- devices ---------------------------------------------------------------- */

static void devices_are_described(void **state)
{
    (void)state;
    bn_opencl_device *all;
    bn_text text = {0};
    int count;
    assert_ok(bn_opencl_devices(&all, &count));
    assert_true(count >= 1); /* PoCL at least */
    assert_true(all[0].name[0] != '\0' && all[0].driver[0] != '\0');
    assert_true(all[0].compute_units >= 1);
    assert_true(all[0].global_bytes >= all[0].max_alloc_bytes);
    assert_ok(bn_opencl_list(&text));
    assert_memory_equal(text.data, "opencl:0\t", 9);
    assert_non_null(strstr(text.data, all[0].name));
    bn_text_clear(&text);
    free(all);
}

static void a_device_is_chosen_by_index_or_name(void **state)
{
    (void)state;
    bn_opencl_device *all;
    bn_backend *backend;
    int count;
    char part[8];
    assert_ok(bn_opencl_devices(&all, &count));
    snprintf(part, sizeof part, "%.6s", all[0].name);
    for (char *c = part; *c; c++)
        *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
    const char *const right[] = {NULL, "", "0", part};
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
        assert_ok(bn_opencl_backend_new(right[i], NULL, &backend));
        assert_non_null(bn_opencl_device_of(backend));
        assert_memory_equal(backend->name, "opencl:", 7);
        bn_backend_free(backend);
    }
    const char *const wrong[] = {"99999", "no such device"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(bn_opencl_backend_new(wrong[i], NULL, &backend), BN_NO_DEVICE);
        assert_null(backend);
        assert_non_null(strstr(bn_error_text(), wrong[i]));
        assert_non_null(strstr(bn_error_text(), all[0].name)); /* what was found */
    }
    free(all);
    assert_int_equal(bn_opencl_backend_new(NULL, &(bn_opencl_options){.shape = "round"}, &backend),
                     BN_USAGE);
}

/* ---- memory and transfers ------------------------------------------------------ */

static void memory_is_zeroed_aligned_and_counted(void **state)
{
    (void)state;
    enum { BYTES = 100003 };
    static unsigned char copy[BYTES];
    bn_backend *backend = open_default();
    bn_opencl_stats before = bn_opencl_stats_of(backend);
    bn_buffer a, b;
    assert_ok(backend->alloc(backend, BYTES, &a));
    assert_ok(backend->alloc(backend, 5, &b));
    assert_null(a.host);
    assert_int_equal(a.bytes, BYTES);
    assert_int_equal(bn_opencl_stats_of(backend).bytes - before.bytes, BYTES + 5);
    memset(copy, 1, BYTES);
    bn_tensor t = bn_tensor_at(bn_tensor_1d(BN_U8, BYTES), &a, 0);
    assert_ok(backend->download(backend, &t, copy));
    for (int i = 0; i < BYTES; i++)
        assert_int_equal(copy[i], 0);
    backend->release(backend, &a);
    assert_null(a.handle);
    backend->release(backend, &a); /* nothing to do */
    backend->release(backend, &b);
    assert_int_equal(bn_opencl_stats_of(backend).bytes, before.bytes);
    assert_true(bn_opencl_stats_of(backend).peak_bytes >= before.bytes + BYTES + 5);
    bn_backend_free(backend);
}

static void too_large_an_allocation_says_what_there_is(void **state)
{
    (void)state;
    bn_backend *backend = open_default();
    bn_buffer buffer;
    size_t bytes = (size_t)bn_opencl_device_of(backend)->max_alloc_bytes + 4096;
    assert_int_equal(backend->alloc(backend, bytes, &buffer), BN_FAIL);
    assert_null(buffer.handle);
    assert_non_null(strstr(bn_error_text(), "in one block"));
    bn_backend_free(backend);
}

static void more_than_the_device_has_is_refused(void **state)
{
    (void)state;
    enum { LIMIT = 1 << 20 };
    bn_backend *backend;
    bn_buffer a, b;
    assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.memory_limit = LIMIT}, &backend));
    assert_ok(backend->alloc(backend, LIMIT / 2, &a));
    assert_int_equal(backend->alloc(backend, LIMIT / 2, &b), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "512.0 KiB are needed in one block"));
    assert_non_null(strstr(bn_error_text(), "1.0 MiB in all"));
    assert_non_null(strstr(bn_error_text(), "CL_MEM_OBJECT_ALLOCATION_FAILURE"));
    backend->release(backend, &a);
    assert_ok(backend->alloc(backend, LIMIT / 2, &b)); /* there is room again */
    backend->release(backend, &b);
    bn_backend_free(backend);
}

static void usage_is_told(void **state)
{
    (void)state;
    bn_backend_usage before, now;
    bn_buffer buffer;
    bn_backend *backend = open_default();
    backend->usage(backend, &before);
    assert_ok(backend->alloc(backend, 4096, &buffer));
    bn_tensor t = bn_tensor_at(bn_tensor_1d(BN_U8, 1000), &buffer, 0);
    unsigned char bytes[1000] = {0};
    assert_ok(backend->upload(backend, &t, bytes));
    assert_ok(backend->download(backend, &t, bytes));
    backend->release(backend, &buffer);
    backend->usage(backend, &now);
    assert_int_equal(now.bytes, before.bytes);
    assert_int_equal(now.peak_bytes, before.bytes + 4096);
    assert_int_equal(now.upload_bytes - before.upload_bytes, 1000);
    assert_int_equal(now.download_bytes - before.download_bytes, 1000 + 16); /* and the flag */
    bn_backend_free(backend);
}

/* More small uploads than the staging memory holds, one large one, and parts. */
static void uploads_arrive_in_order(void **state)
{
    (void)state;
    enum { SMALL = 50000, TIMES = 61, LARGE = 3 << 20 };
    static unsigned char from[LARGE], to[LARGE];
    bn_backend *backend = open_default();
    bn_buffer buffer;
    assert_ok(backend->alloc(backend, LARGE + BN_ALIGN, &buffer));
    for (int i = 0; i < TIMES; i++) {
        memset(from, i, SMALL);
        bn_tensor t = bn_tensor_at(bn_tensor_1d(BN_U8, SMALL), &buffer, (size_t)i * BN_ALIGN);
        assert_ok(backend->upload(backend, &t, from));
        memset(from, 255, SMALL); /* the call has its own copy */
    }
    bn_tensor all = bn_tensor_at(bn_tensor_1d(BN_U8, TIMES * BN_ALIGN), &buffer, 0);
    assert_ok(backend->download(backend, &all, to));
    for (int i = 0; i < TIMES * BN_ALIGN; i++)
        assert_int_equal(to[i], i / BN_ALIGN);
    for (int i = 0; i < LARGE; i++)
        from[i] = (unsigned char)(i * 7 + i / 256);
    bn_tensor large = bn_tensor_at(bn_tensor_1d(BN_U8, LARGE), &buffer, BN_ALIGN);
    assert_ok(backend->upload(backend, &large, from));
    assert_ok(backend->download(backend, &large, to));
    assert_memory_equal(from, to, LARGE);
    assert_ok(backend->fill_zero(backend, &large));
    assert_ok(backend->download(backend, &large, to));
    for (int i = 0; i < LARGE; i++)
        assert_int_equal(to[i], 0);
    bn_tensor one = bn_tensor_at(bn_tensor_1d(BN_U8, 1), &buffer, 0);
    assert_ok(backend->download(backend, &one, to));
    assert_int_equal(to[0], 0);
    backend->release(backend, &buffer);
    bn_backend_free(backend);
}

/* ---- what kernels find ------------------------------------------------------------ */

static void a_wrong_id_or_label_is_reported_once(void **state)
{
    (void)state;
    static const int32_t ids[6] = {0, 4, 1, 9, 2, 3}, labels[2] = {1, -7};
    static const double weight[5 * 3] = {1}, logits[2 * 4] = {1};
    bn_backend *backend = open_default();
    bn_op_spec specs[2] = {
        {.op = BN_OP_EMBEDDING,
         .in = {bn_tensor_2d(BN_I32, 2, 3), bn_tensor_2d(BN_F64, 5, 3)},
         .data = {ids, weight}},
        {.op = BN_OP_CROSS_ENTROPY,
         .params.cross_entropy.ignore_index = -100,
         .in = {bn_tensor_2d(BN_F64, 2, 4), bn_tensor_1d(BN_I32, 2)},
         .data = {logits, labels}},
    };
    const char *const texts[2][2] = {{"embedding: id 9", "row 3"},
                                     {"cross_entropy: label -7", "row 1"}};
    for (int i = 0; i < 2; i++) {
        bn_op_instance op;
        assert_ok(bn_op_instance_init(&op, backend, &specs[i]));
        assert_ok(bn_op_instance_forward(&op)); /* found later, on the device */
        assert_int_equal(backend->sync(backend), BN_FAIL);
        assert_non_null(strstr(bn_error_text(), texts[i][0]));
        assert_non_null(strstr(bn_error_text(), texts[i][1]));
        assert_ok(backend->sync(backend));
        bn_op_instance_clear(&op);
    }
    bn_backend_free(backend);
}

static void an_op_without_a_kernel_is_named(void **state)
{
    (void)state;
    bn_backend *backend = open_default();
    bn_op_call call = {.op = BN_OP_RESHAPE};
    assert_int_equal(bn_backend_forward(backend, &call), BN_FAIL);
    assert_non_null(strstr(bn_error_text(), "opencl:"));
    assert_non_null(strstr(bn_error_text(), "reshape"));
    bn_backend_free(backend);
}

/* ---- a small scenario ---------------------------------------------------------------- */

enum { N = 1000 };

/* Two ops from two programs, forward and backward, and the routines; sum [1]. */
static bn_status scenario_on(bn_backend *backend, float *sum)
{
    static double x[N];
    for (int i = 0; i < N; i++)
        x[i] = i % 7;
    bn_status status = BN_OK;
    bn_op_instance mul = {0}, total = {0};
    bn_op_spec product = {
        .op = BN_OP_MUL, .in = {bn_tensor_1d(BN_F64, N), bn_tensor_1d(BN_F64, N)}, .data = {x, x}};
    bn_op_spec all = {.op = BN_OP_SUM, .in = {bn_tensor_1d(BN_F64, N)}, .data = {x}};
    BN_TRY_OUT(bn_op_instance_init(&mul, backend, &product));
    BN_TRY_OUT(bn_op_instance_init(&total, backend, &all));
    BN_TRY_OUT(bn_op_instance_forward(&mul));
    BN_TRY_OUT(bn_op_instance_backward(&mul, BN_I0 | BN_I1, 0));
    BN_TRY_OUT(backend->scale(backend, &total.call.in[0], 2));
    BN_TRY_OUT(backend->fill_zero(backend, &mul.call.dout));
    BN_TRY_OUT(bn_op_instance_forward(&total));
    BN_TRY_OUT(backend->sync(backend));
    BN_TRY_OUT(backend->download(backend, &total.call.out[0], sum));
out:
    bn_op_instance_clear(&mul);
    bn_op_instance_clear(&total);
    return status;
}

static float expected_sum(void)
{
    float sum = 0;
    for (int i = 0; i < N; i++)
        sum += 2.0f * (float)(i % 7);
    return sum;
}

static void every_driver_call_can_fail(void **state)
{
    (void)state;
    for (int profile = 0; profile <= 1; profile++) {
        int64_t failures = 0;
        for (int64_t k = 1;; k++) {
            bn_opencl_options options = {.cache_dir = "", .fail_call = k, .profile = profile};
            bn_backend *backend = NULL;
            float sum = 0;
            bn_status status = bn_opencl_backend_new(NULL, &options, &backend);
            if (status == BN_OK)
                status = scenario_on(backend, &sum);
            uint64_t calls = backend ? bn_opencl_stats_of(backend).calls : 0;
            bn_backend_free(backend);
            if (status == BN_OK) {
                assert_true(calls < (uint64_t)k); /* no failed call went unnoticed */
                assert_true(sum == expected_sum());
                break;
            }
            assert_true(status == BN_NO_DEVICE || status == BN_FAIL); /* a buffer: no memory */
            assert_non_null(strstr(bn_error_text(), "CL_OUT_OF_RESOURCES"));
            bn_error_clear();
            failures++;
        }
        assert_true(failures > 20);
    }
}

static void kernels_are_timed_on_request(void **state)
{
    (void)state;
    bn_backend *backend;
    bn_text text = {0};
    float sum;
    assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.profile = true}, &backend));
    assert_ok(scenario_on(backend, &sum));
    assert_ok(bn_opencl_profile(backend, &text));
    assert_non_null(strstr(text.data, "bn_mul_backward"));
    assert_non_null(strstr(text.data, "1 launches"));
    bn_text_clear(&text);
    bn_backend_free(backend);
}

/* ---- the cache on disk ------------------------------------------------------------------ */

enum { CACHE_FILES = 3 }; /* programs of the scenario: elementwise, movement, optimizer */

static bn_opencl_stats run_with_cache(const char *dir)
{
    bn_backend *backend;
    float sum = 0;
    assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.cache_dir = dir}, &backend));
    assert_ok(scenario_on(backend, &sum));
    assert_true(sum == expected_sum());
    bn_opencl_stats stats = bn_opencl_stats_of(backend);
    bn_backend_free(backend);
    return stats;
}

typedef enum damage { TRUNCATED, EMPTY, FLIPPED, WRONG_MAGIC, TOO_LONG, GARBAGE, DAMAGES } damage;

static void damage_file(const char *path, damage kind)
{
    char *data;
    size_t size;
    assert_ok(bn_fs_read(path, 1 << 26, &data, &size));
    assert_true(size > 100);
    char *longer = realloc(data, size + 10);
    assert_non_null(longer);
    memset(longer + size, 0, 10);
    if (kind == FLIPPED)
        longer[size / 2] ^= 1;
    if (kind == WRONG_MAGIC)
        longer[0] ^= 1;
    if (kind == GARBAGE)
        memset(longer, 'x', size);
    assert_ok(bn_fs_write(path, longer,
                          kind == TRUNCATED  ? size / 2
                          : kind == EMPTY    ? 0
                          : kind == TOO_LONG ? size + 10
                                             : size));
    free(longer);
}

static void the_cache_is_used_and_never_trusted(void **state)
{
    (void)state;
    char dir[] = "cache-XXXXXX";
    assert_non_null(mkdtemp(dir));
    bn_opencl_stats stats = run_with_cache(dir);
    assert_int_equal(stats.built, CACHE_FILES);
    assert_int_equal(stats.cached, 0);
    for (int kind = 0; kind < DAMAGES; kind++) {
        bn_strings files = {0};
        stats = run_with_cache(dir);
        assert_int_equal(stats.cached, CACHE_FILES);
        assert_int_equal(stats.built + stats.cache_errors, 0);
        assert_ok(bn_fs_list(dir, NULL, NULL, &files));
        assert_int_equal(files.count, CACHE_FILES); /* and no temporary ones */
        char *path = bn_path_join(dir, files.items[0]);
        damage_file(path, (damage)kind);
        free(path);
        bn_strings_clear(&files);
        stats = run_with_cache(dir);
        assert_int_equal(stats.cached, CACHE_FILES - 1);
        assert_int_equal(stats.built, 1);
        assert_int_equal(stats.cache_errors, 1);
    }
}

static void a_cache_that_cannot_be_written_does_no_harm(void **state)
{
    (void)state;
    assert_ok(bn_fs_write("a-file", "x", 1));
    bn_opencl_stats stats = run_with_cache("a-file/below");
    assert_int_equal(stats.built, CACHE_FILES);
    assert_true(stats.cache_errors > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_are_described),
        cmocka_unit_test(a_device_is_chosen_by_index_or_name),
        cmocka_unit_test(memory_is_zeroed_aligned_and_counted),
        cmocka_unit_test(too_large_an_allocation_says_what_there_is),
        cmocka_unit_test(more_than_the_device_has_is_refused),
        cmocka_unit_test(usage_is_told),
        cmocka_unit_test(uploads_arrive_in_order),
        cmocka_unit_test(a_wrong_id_or_label_is_reported_once),
        cmocka_unit_test(an_op_without_a_kernel_is_named),
        cmocka_unit_test(every_driver_call_can_fail),
        cmocka_unit_test(kernels_are_timed_on_request),
        cmocka_unit_test(the_cache_is_used_and_never_trusted),
        cmocka_unit_test(a_cache_that_cannot_be_written_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
