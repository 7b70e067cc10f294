/* What only a broken library or machine says, or an internal caller: the linker puts
 * functions of this file in front of HDF5's and of access(). */
#include "cmocka_all.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "checkpoint/h5file.h"
#include "checkpoint/h5impl.h"
#include "h5_tools.h"

static struct {
    hsize_t dim, chunk0, chunk1, stored; /* 0: the truth */
    bool no_chunk1, no_access;
} lie;

int __real_H5Sget_simple_extent_dims(hid_t space, hsize_t *dims, hsize_t *most);
int __wrap_H5Sget_simple_extent_dims(hid_t space, hsize_t *dims, hsize_t *most);
int __wrap_H5Sget_simple_extent_dims(hid_t space, hsize_t *dims, hsize_t *most)
{
    const int ndim = __real_H5Sget_simple_extent_dims(space, dims, most);
    if (lie.dim)
        dims[0] = most[0] = lie.dim;
    return ndim;
}

int __real_H5Pget_chunk(hid_t plist, int ndim, hsize_t *chunk);
int __wrap_H5Pget_chunk(hid_t plist, int ndim, hsize_t *chunk);
int __wrap_H5Pget_chunk(hid_t plist, int ndim, hsize_t *chunk)
{
    const int got = __real_H5Pget_chunk(plist, ndim, chunk);
    if (lie.chunk0)
        chunk[0] = lie.chunk0;
    if (lie.chunk1 || lie.no_chunk1)
        chunk[1] = lie.chunk1;
    return got;
}

hsize_t __real_H5Dget_storage_size(hid_t dataset);
hsize_t __wrap_H5Dget_storage_size(hid_t dataset);
hsize_t __wrap_H5Dget_storage_size(hid_t dataset)
{
    return lie.stored ? lie.stored : __real_H5Dget_storage_size(dataset);
}

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode)
{
    errno = EACCES;
    return lie.no_access ? -1 : __real_access(path, mode);
}

static const float values[6] = {1, 2, 3, 4, 5, 6};

static int write_file(void **state)
{
    const bn_h5_array array = {"x", BN_H5_F32, 2, {2, 3}, values};
    bn_h5_writer *w;
    (void)state;
    assert_ok(bn_h5_create("lies.h5", 0, &w));
    assert_ok(bn_h5_put(w, &array));
    assert_ok(bn_h5_commit(w));
    return 0;
}

static int tell_the_truth(void **state)
{
    (void)state;
    memset(&lie, 0, sizeof lie);
    return 0;
}

static void assert_refused(bn_status status, const char *part)
{
    bn_h5_reader *r;
    assert_fails(bn_h5_open_here("lies.h5", &r), status, part);
    assert_null(r);
    tell_the_truth(NULL);
    assert_ok(bn_h5_open_here("lies.h5", &r));
    bn_h5_close(r);
}

static void numbers_of_the_library(void **state)
{
    (void)state;
    lie.dim = UINT64_C(1) << 63;
    assert_refused(BN_BAD_DATA, "dimension 0 is 9223372036854775808, expected fixed and >= 1");
    lie.stored = 1 << 30;
    assert_refused(BN_BAD_DATA, "found 1073741824 in a file of");
    lie.no_chunk1 = true;
    assert_refused(BN_BAD_DATA, "expected chunks of at most");
    lie.chunk0 = UINT64_C(1) << 63;
    assert_refused(BN_BAD_DATA, "expected chunks of at most");
}

static void a_file_that_may_not_be_read(void **state)
{
    (void)state;
    lie.no_access = true;
    assert_refused(BN_NO_INPUT, "lies.h5: cannot be read: Permission denied");
}

static bn_status take(void *arg, const void *data, size_t bytes)
{
    size_t *taken = arg;
    assert_memory_equal(data, values, bytes);
    *taken += bytes;
    return *taken > sizeof values ? bn_error(BN_FAIL, "enough") : BN_OK;
}

/* In --untrusted the child hands every piece on as it reads it. */
static void pieces_are_handed_on(void **state)
{
    (void)state;
    size_t taken = 0;
    bn_h5_reader *r;
    assert_ok(bn_h5_open_here("lies.h5", &r));
    assert_ok(bn_h5_read_pieces(r, bn_h5_at(r, 0), take, &taken));
    assert_int_equal(taken, sizeof values);
    assert_fails(bn_h5_read_pieces(r, bn_h5_at(r, 0), take, &taken), BN_FAIL, "enough");
    bn_h5_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(numbers_of_the_library, tell_the_truth),
        cmocka_unit_test_teardown(a_file_that_may_not_be_read, tell_the_truth),
        cmocka_unit_test(pieces_are_handed_on),
    };
    return cmocka_run_group_tests(tests, write_file, NULL);
}
