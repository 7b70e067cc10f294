/* h5_tools.h - what the checkpoint tests do to files behind the library's back. */
#ifndef BN_TESTS_H5_TOOLS_H
#define BN_TESTS_H5_TOOLS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define H5_USE_110_API
#include <hdf5.h>

#include <cmocka_all.h>

/* The HDF5 library leaks what it has parsed of a damaged object header before
 * it finds the damage; leaks of this project's own memory still show. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

/* A whole file in memory; the caller frees. */
static inline unsigned char *tool_slurp(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

static inline void tool_spill(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* Opens an existing file for changes. */
static inline hid_t tool_open(const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_LATEST);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    H5Pclose(access);
    assert_true(file >= 0);
    return file;
}

/* The error text is one line. */
static inline void assert_one_line(void)
{
    assert_true(bn_error_text()[0] != '\0');
    assert_null(strchr(bn_error_text(), '\n'));
}

/* `expr` fails so, with one line that has `part` in it. */
#define assert_fails(expr, want, part)                                                             \
    do {                                                                                           \
        bn_error_clear();                                                                          \
        const bn_status assert_fails_status_ = (expr);                                             \
        if (assert_fails_status_ != (want) || !strstr(bn_error_text(), (part)))                    \
            fail_msg("%s: status %d, expected %d with \"%s\": %s", #expr, assert_fails_status_,    \
                     (int)(want), (part), bn_error_text());                                        \
        assert_one_line();                                                                         \
    } while (0)

#endif
