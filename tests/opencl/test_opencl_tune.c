/* Choices: each candidate gives the same bits, tuning keeps what it found, and a
 * stored file that is damaged or foreign is neither trusted nor in the way. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/train/train_help.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "opencl/opencl.h"
#include "opencl/product_cases.h"
#include "train/tune.h"

static const char dir[] = "tune-cache";

static bn_backend *open_backend(const char *shape)
{
    bn_backend *backend;
    assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.shape = shape, .cache_dir = dir},
                                    &backend));
    return backend;
}

static void try_candidates(bn_backend *backend, const op_case *k)
{
    size_t bytes, again;
    unsigned char *expected = case_run(k, backend, &bytes);
    for (int i = 0; i < backend->n_choices; i++) {
        bn_choice *c = &backend->choices[i];
        for (const int *candidate = c->candidates; *candidate; candidate++) {
            c->value = *candidate;
            unsigned char *got = case_run(k, backend, &again);
            assert_int_equal(again, bytes);
            if (memcmp(got, expected, bytes) != 0)
                fail_msg("%s: %s = %d changes the result", k->name, c->name, c->value);
            free(got);
        }
        c->value = c->standard;
    }
    free(expected);
}

static void candidates_do_not_change_results(void **state)
{
    (void)state;
    static const char *const shapes[] = {"cpu", "gpu"};
    op_case cases[] = {case_linear(150, 140, 300, true), case_bitlinear(205, 200, 150, 64, true)};
    for (int s = 0; s < 2; s++) {
        bn_backend *backend = open_backend(shapes[s]);
        assert_true(backend->n_choices > 0);
        for (int i = 0; i < 2; i++)
            try_candidates(backend, &cases[i]);
        bn_backend_free(backend);
    }
    for (int i = 0; i < 2; i++)
        case_clear(&cases[i]);
}

/* ---- what is kept --------------------------------------------------------------------- */

/* Path of the only file of stored choices; the caller frees. */
static char *tune_file(void)
{
    bn_strings names = {0};
    assert_ok(bn_fs_list(dir, "", ".tune", &names));
    assert_int_equal(names.count, 1);
    char *path = bn_path_join(dir, names.items[0]);
    assert_non_null(path);
    bn_strings_clear(&names);
    return path;
}

static void write_file(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* A file with a right header and any content. */
static void write_sealed(const char *path, const char *content)
{
    char data[512] = "bnocl002";
    const uint64_t size = strlen(content);
    bn_sha256 sha;
    bn_sha256_init(&sha);
    bn_sha256_add(&sha, content, size);
    memcpy(data + 8, &size, 8);
    bn_sha256_end(&sha, (uint8_t *)data + 16);
    memcpy(data + 48, content, size);
    write_file(path, data, 48 + size);
}

static void expect_defaults(void)
{
    bn_backend *backend = open_backend("cpu");
    assert_false(backend->choices_kept);
    assert_int_equal(bn_opencl_stats_of(backend).cache_errors, 1);
    for (int i = 0; i < backend->n_choices; i++)
        assert_int_equal(backend->choices[i].value, backend->choices[i].standard);
    bn_backend_free(backend);
}

static void tuning_is_kept(void **state)
{
    (void)state;
    bn_config config;
    bn_text report = {0};
    char *text;
    help_config(&config, "out-tune", NULL);
    bn_backend *backend = open_backend("cpu");
    assert_false(backend->choices_kept);
    assert_ok(bn_tune(&config, backend, &report));
    assert_true(backend->choices_kept);
    assert_ok(bn_text_take(&report, &text));
    int values[16];
    const int n = backend->n_choices;
    for (int i = 0; i < n; i++) {
        values[i] = backend->choices[i].value;
        assert_non_null(strstr(text, backend->choices[i].name));
    }
    free(text);
    bn_backend_free(backend);
    backend = open_backend("cpu");
    assert_true(backend->choices_kept);
    for (int i = 0; i < n; i++)
        assert_int_equal(backend->choices[i].value, values[i]);
    bn_backend_free(backend);
    bn_config_clear(&config);
    backend = open_backend("gpu"); /* another class of kernels has its own file */
    assert_false(backend->choices_kept);
    bn_backend_free(backend);
}

static void a_bad_file_is_not_trusted(void **state)
{
    (void)state;
    size_t size;
    char *path = tune_file(), *good;
    bn_backend *backend = open_backend("cpu");
    backend->choices[0].value = backend->choices[0].candidates[0]; /* no default */
    assert_int_not_equal(backend->choices[0].value, backend->choices[0].standard);
    assert_ok(backend->keep_choices(backend));
    bn_backend_free(backend);
    assert_ok(bn_fs_read(path, 4096, &good, &size));
    for (size_t at = 0; at < size; at += 7) {
        good[at] ^= 1;
        write_file(path, good, size);
        expect_defaults();
        good[at] ^= 1;
    }
    for (size_t shorter = 0; shorter < size; shorter += 19) {
        write_file(path, good, shorter);
        expect_defaults();
    }
    write_sealed(path, "");
    expect_defaults();
    write_sealed(path, "blocks_per_core 3\n");
    expect_defaults();
    write_file(path, good, size);
    backend = open_backend("cpu");
    assert_true(backend->choices_kept);
    assert_int_equal(backend->choices[0].value, backend->choices[0].candidates[0]);
    backend->choices[0].value = 7; /* as by another program: no candidate */
    assert_ok(backend->keep_choices(backend));
    bn_backend_free(backend);
    expect_defaults();
    backend = open_backend("cpu");
    assert_ok(backend->keep_choices(backend)); /* replaces it */
    bn_backend_free(backend);
    backend = open_backend("cpu");
    assert_true(backend->choices_kept);
    bn_backend_free(backend);
    free(good);
    free(path);
}

static void without_a_folder_nothing_is_kept(void **state)
{
    (void)state;
    bn_backend *backend;
    assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.cache_dir = ""}, &backend));
    assert_int_equal(backend->keep_choices(backend), BN_IO);
    assert_non_null(strstr(bn_error_text(), "BITNET_CACHE_DIR"));
    assert_false(backend->choices_kept);
    bn_backend_free(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tuning_is_kept),
        cmocka_unit_test(a_bad_file_is_not_trusted),
        cmocka_unit_test(without_a_folder_nothing_is_kept),
        cmocka_unit_test(candidates_do_not_change_results),
    };
    if (bn_fs_exists(dir))
        help_remove(dir);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
