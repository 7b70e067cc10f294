/* Which kernel every backend has for every op, against coverage.txt. A kernel
 * that disappears, or falls back to the reference, shows as a difference.
 * BITNET_UPDATE_GOLDEN=1 writes the sections of this machine's backends anew. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cpu/cpu.h"
#if BN_WITH_OPENCL
#include "opencl/opencl.h"
#endif

static char *golden_path(void)
{
    const char *source = getenv("BITNET_SOURCE_DIR");
    assert_non_null(source);
    return bn_path_join(source, "tests/golden/coverage.txt");
}

/* The backend's section goes to `found`; free the backend. */
static void add_section(bn_text *found, const char *title, bn_backend *backend)
{
    char *text;
    assert_ok(bn_backend_coverage(backend, &text));
    bn_text_addf(found, "[%s]\n%s\n", title, text);
    free(text);
    bn_backend_free(backend);
}

/* AVX-512 differs from AVX2 in speed and in names; only some machines have it. */
static void cpu_sections(bn_text *found)
{
    static const char *const isas[] = {"ref", "generic", "avx2"};
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        bn_backend *backend;
        char title[32];
        bool runs = false;
        for (int k = 0; bn_cpu_isa_choice(k); k++)
            runs = runs || strcmp(bn_cpu_isa_choice(k), isas[i]) == 0;
        if (!runs)
            continue;
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1, .isa = isas[i]}, &backend));
        snprintf(title, sizeof title, "cpu %s", isas[i]);
        add_section(found, title, backend);
    }
}

static void opencl_sections(bn_text *found)
{
#if BN_WITH_OPENCL
    static const char *const shapes[] = {"cpu", "gpu"};
    for (int i = 0; i < 2; i++) {
        bn_backend *backend;
        char title[32];
        assert_ok(bn_opencl_backend_new(NULL, &(bn_opencl_options){.shape = shapes[i]}, &backend));
        snprintf(title, sizeof title, "opencl %s", shapes[i]);
        add_section(found, title, backend);
    }
#else
    (void)found;
#endif
}

/* The section of `all` that starts at `section`, up to the next one. */
static size_t section_length(const char *section)
{
    const char *next = strstr(section + 1, "\n[");
    return next ? (size_t)(next + 1 - section) : strlen(section);
}

static void every_backend_has_the_kernels_on_record(void **state)
{
    (void)state;
    bn_text found = {0};
    char *path = golden_path(), *golden;
    cpu_sections(&found);
    opencl_sections(&found);
    if (getenv("BITNET_UPDATE_GOLDEN"))
        assert_ok(bn_fs_write(path, found.data, found.size));
    assert_ok(bn_fs_read(path, 1 << 20, &golden, NULL));
    for (const char *section = found.data; *section; section += section_length(section)) {
        char title[48];
        size_t length = section_length(section);
        snprintf(title, sizeof title, "%.*s", (int)strcspn(section, "\n") + 1, section);
        const char *expected = strstr(golden, title);
        if (!expected)
            fail_msg("coverage.txt has no section %s", title);
        if (section_length(expected) != length || memcmp(expected, section, length) != 0)
            fail_msg("kernels differ from coverage.txt; found:\n%.*s", (int)length, section);
    }
    bn_text_clear(&found);
    free(golden);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_backend_has_the_kernels_on_record)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
