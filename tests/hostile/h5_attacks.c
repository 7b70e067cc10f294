/* The attacks (h5_attacks.h). */
#include "h5_attacks.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h5_repair.h"

/* A change that cannot be made is a mistake of this file. */
static void must_line(bool ok, int line)
{
    if (!ok) {
        fprintf(stderr, "h5_attacks.c:%d: the file cannot be changed so\n", line);
        exit(1);
    }
}
#define must(ok) must_line((ok), __LINE__)

static void close_group(hid_t group)
{
    must(group >= 0);
    H5Gclose(group);
}

static void add_dataset(hid_t file, const char *name, hid_t type, hid_t space, hid_t create)
{
    hid_t d = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    must(d >= 0);
    H5Dclose(d);
}

static void soft_link(hid_t file, const char *array)
{
    must(H5Lcreate_soft(array, file, "soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void external_link(hid_t file, const char *array)
{
    (void)array;
    must(H5Lcreate_external("/etc/passwd", "/x", file, "ext", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void nested_soft_link(hid_t file, const char *array)
{
    close_group(H5Gcreate2(file, "nest", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    must(H5Lcreate_soft(array, file, "nest/soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void group_cycle(hid_t file, const char *array)
{
    (void)array;
    close_group(H5Gcreate2(file, "nest", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    must(H5Lcreate_hard(file, "/", file, "nest/root", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void named_type(hid_t file, const char *array)
{
    (void)array;
    hid_t type = H5Tcopy(H5T_STD_U8LE);
    must(H5Tcommit2(file, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Tclose(type);
}

static void external_storage(hid_t file, const char *array)
{
    (void)array;
    const hsize_t n = 8;
    hid_t space = H5Screate_simple(1, &n, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    must(H5Pset_external(create, "/etc/passwd", 0, 8) >= 0);
    add_dataset(file, "outside", H5T_STD_U8LE, space, create);
    H5Pclose(create);
    H5Sclose(space);
}

static void virtual_dataset(hid_t file, const char *array)
{
    (void)array;
    const hsize_t n = 7;
    hid_t space = H5Screate_simple(1, &n, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    must(H5Pset_virtual(create, space, "other.h5", "/bytes", space) >= 0);
    add_dataset(file, "mirage", H5T_STD_U8LE, space, create);
    H5Pclose(create);
    H5Sclose(space);
}

static void other_filter(hid_t file, const char *array)
{
    (void)array;
    const hsize_t n = 7;
    hid_t space = H5Screate_simple(1, &n, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    must(H5Pset_chunk(create, 1, &n) >= 0 && H5Pset_nbit(create) >= 0);
    add_dataset(file, "filtered", H5T_STD_U8LE, space, create);
    H5Pclose(create);
    H5Sclose(space);
}

static void typed(hid_t file, hid_t type)
{
    const hsize_t n = 2;
    hid_t space = H5Screate_simple(1, &n, NULL);
    add_dataset(file, "typed", type, space, H5P_DEFAULT);
    H5Sclose(space);
}

static void big_endian(hid_t file, const char *array)
{
    (void)array;
    typed(file, H5T_IEEE_F32BE);
}

static void signed_bytes(hid_t file, const char *array)
{
    (void)array;
    typed(file, H5T_STD_I8LE);
}

static void variable_length(hid_t file, const char *array)
{
    (void)array;
    hid_t type = H5Tvlen_create(H5T_STD_U8LE);
    typed(file, type);
    H5Tclose(type);
}

static void compound(hid_t file, const char *array)
{
    (void)array;
    hid_t type = H5Tcreate(H5T_COMPOUND, 8);
    must(H5Tinsert(type, "a", 0, H5T_STD_I64LE) >= 0);
    typed(file, type);
    H5Tclose(type);
}

static void shaped(hid_t file, int ndim, const hsize_t *shape, const hsize_t *most,
                   const hsize_t *chunk)
{
    hid_t space = H5Screate_simple(ndim, shape, most), create = H5Pcreate(H5P_DATASET_CREATE);
    if (chunk)
        must(H5Pset_chunk(create, ndim, chunk) >= 0);
    add_dataset(file, "shaped", H5T_IEEE_F32LE, space, create);
    H5Pclose(create);
    H5Sclose(space);
}

static void scalar(hid_t file, const char *array)
{
    (void)array;
    hid_t space = H5Screate(H5S_SCALAR);
    add_dataset(file, "shaped", H5T_IEEE_F32LE, space, H5P_DEFAULT);
    H5Sclose(space);
}

static void five_dimensions(hid_t file, const char *array)
{
    (void)array;
    shaped(file, 5, (const hsize_t[]){1, 1, 1, 1, 2}, NULL, NULL);
}

static void no_elements(hid_t file, const char *array)
{
    (void)array;
    shaped(file, 1, (const hsize_t[]){0}, NULL, NULL);
}

static void extensible(hid_t file, const char *array)
{
    (void)array;
    shaped(file, 1, (const hsize_t[]){4}, (const hsize_t[]){H5S_UNLIMITED}, (const hsize_t[]){4});
}

/* A terabyte in no chunks: the file says it, nothing is there. */
static void hollow(hid_t file, const char *array)
{
    (void)array;
    shaped(file, 2, (const hsize_t[]){1 << 20, 1 << 18}, NULL, (const hsize_t[]){1024, 256});
}

/* One chunk of two is there. */
static void half_hollow(hid_t file, const char *array)
{
    (void)array;
    const hsize_t start = 0, n = 16;
    const float x[16] = {1};
    shaped(file, 1, (const hsize_t[]){32}, NULL, &n);
    hid_t d = H5Dopen2(file, "shaped", H5P_DEFAULT);
    hid_t all = H5Dget_space(d), part = H5Screate_simple(1, &n, NULL);
    must(H5Sselect_hyperslab(all, H5S_SELECT_SET, &start, NULL, &n, NULL) >= 0);
    must(H5Dwrite(d, H5T_NATIVE_FLOAT, part, all, H5P_DEFAULT, x) >= 0);
    H5Sclose(part);
    H5Sclose(all);
    H5Dclose(d);
}

static void overflowing(hid_t file, const char *array)
{
    (void)array;
    shaped(file, 2, (const hsize_t[]){UINT64_C(1) << 40, UINT64_C(1) << 40}, NULL,
           (const hsize_t[]){16, 16});
}

static void huge_chunk(hid_t file, const char *array)
{
    (void)array;
    const hsize_t n = 2 << 20;
    float *zeros = calloc(n, sizeof *zeros);
    shaped(file, 1, &n, NULL, &n);
    hid_t d = H5Dopen2(file, "shaped", H5P_DEFAULT);
    must(zeros != NULL);
    must(H5Dwrite(d, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    H5Dclose(d);
    free(zeros);
}

static void without_checksum(hid_t file, const char *array)
{
    must(H5Adelete_by_name(file, array, "crc32c", H5P_DEFAULT) >= 0);
}

static void without_root_checksum(hid_t file, const char *array)
{
    (void)array;
    must(H5Adelete(file, "attributes_crc32c") >= 0);
}

static void attribute(hid_t file, const char *object, const char *name, hid_t type, hid_t space)
{
    hid_t a =
        H5Acreate_by_name(file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    must(a >= 0);
    H5Aclose(a);
    H5Sclose(space);
}

static void vlen_attribute(hid_t file, const char *array)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    attribute(file, array, "vlen", type, H5Screate(H5S_SCALAR));
    H5Tclose(type);
}

static void vlen_root_attribute(hid_t file, const char *array)
{
    (void)array;
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    attribute(file, "/", "vlen", type, H5Screate(H5S_SCALAR));
    H5Tclose(type);
}

static void table_attribute(hid_t file, const char *array)
{
    attribute(file, array, "table", H5T_STD_I64LE,
              H5Screate_simple(2, (const hsize_t[]){2, 2}, NULL));
}

static void float_attribute(hid_t file, const char *array)
{
    attribute(file, array, "narrow", H5T_IEEE_F32LE, H5Screate(H5S_SCALAR));
}

static void many_attributes(hid_t file, const char *array)
{
    for (int i = 0; i < 65; i++) {
        char name[16];
        snprintf(name, sizeof name, "a%d", i);
        attribute(file, array, name, H5T_STD_I64LE, H5Screate(H5S_SCALAR));
    }
}

/* One byte more than a text may have; the file is small, the byte is not there. */
static void long_text(hid_t file, const char *array)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, (64 << 20) + 1);
    attribute(file, array, "long_text", type, H5Screate(H5S_SCALAR));
    H5Tclose(type);
}

static void extra_root_attribute(hid_t file, const char *array)
{
    (void)array;
    attribute(file, "/", "more", H5T_STD_I64LE, H5Screate(H5S_SCALAR));
}

static void odd_name(hid_t file, const char *array)
{
    must(H5Lcreate_hard(file, array, file, "a\nb", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void long_list(hid_t file, const char *array)
{
    attribute(file, array, "long_list", H5T_STD_I64LE,
              H5Screate_simple(1, (const hsize_t[]){65}, NULL));
}

static void text_list(hid_t file, const char *array)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 4);
    attribute(file, array, "text_list", type, H5Screate_simple(1, (const hsize_t[]){2}, NULL));
    H5Tclose(type);
}

static void text_with_zero(hid_t file, const char *array)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, 3);
    hid_t a =
        H5Acreate_by_name(file, array, "text", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    must(a >= 0 && H5Awrite(a, type, "a\0b") >= 0);
    H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
}

static void odd_attribute(hid_t file, const char *array)
{
    attribute(file, array, "a\nb", H5T_STD_I64LE, H5Screate(H5S_SCALAR));
}

static void long_attribute(hid_t file, const char *array)
{
    attribute(file, array, "a123456789b123456789c123456789d123456789e123456789f123456789g123",
              H5T_STD_I64LE, H5Screate(H5S_SCALAR));
}

static hid_t deflated(hid_t file, hsize_t n)
{
    hid_t space = H5Screate_simple(1, &n, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    must(H5Pset_chunk(create, 1, &n) >= 0 && H5Pset_deflate(create, 1) >= 0);
    hid_t d = H5Dcreate2(file, "shaped", H5T_IEEE_F32LE, space, H5P_DEFAULT, create, H5P_DEFAULT);
    must(d >= 0);
    H5Pclose(create);
    H5Sclose(space);
    return d;
}

/* So short that nothing at all could be all of it, compressed. */
static void hollow_deflate(hid_t file, const char *array)
{
    (void)array;
    H5Dclose(deflated(file, 4));
}

/* A chunk of 64 bytes for which the file keeps 4096. */
static void fat_chunk(hid_t file, const char *array)
{
    static const uint8_t bytes[4096];
    const hsize_t at = 0;
    (void)array;
    hid_t d = deflated(file, 16);
    must(H5Dwrite_chunk(d, H5P_DEFAULT, 0, &at, sizeof bytes, bytes) >= 0);
    H5Dclose(d);
}

static hid_t follow(const char *name, hid_t group, const void *data, size_t size, hid_t access,
                    hid_t transfer)
{
    (void)name;
    (void)group;
    (void)data;
    (void)size;
    (void)access;
    (void)transfer;
    return H5I_INVALID_HID;
}

static void user_link(hid_t file, const char *array)
{
    const H5L_class_t class = {
        .version = H5L_LINK_CLASS_T_VERS, .id = H5L_TYPE_UD_MIN + 100, .trav_func = follow};
    (void)array;
    must(H5Lregister(&class) >= 0);
    must(H5Lcreate_ud(file, "user", class.id, "x", 1, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Lunregister(class.id);
}

/* Each part of the name fits, both together do not. */
static void long_path(hid_t file, const char *array)
{
    char group[201], name[402];
    memset(group, 'g', 200);
    group[200] = '\0';
    snprintf(name, sizeof name, "%s/%s", group, group);
    close_group(H5Gcreate2(file, group, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    must(H5Lcreate_hard(file, array, file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

/* Registered under a number of its own, as a plug-in's would be. */
static size_t pass_on(unsigned flags, size_t count, const unsigned *values, size_t bytes,
                      size_t *size, void **buffer)
{
    (void)flags;
    (void)count;
    (void)values;
    (void)size;
    (void)buffer;
    return bytes;
}

static void plugin_filter(hid_t file, const char *array)
{
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, 32768, 1, 1, "plug-in", NULL, NULL, pass_on};
    const hsize_t n = 7;
    (void)array;
    must(H5Zregister(&filter) >= 0);
    hid_t space = H5Screate_simple(1, &n, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    must(H5Pset_chunk(create, 1, &n) >= 0);
    must(H5Pset_filter(create, 32768, H5Z_FLAG_MANDATORY, 0, NULL) >= 0);
    add_dataset(file, "filtered", H5T_STD_U8LE, space, create);
    H5Pclose(create);
    H5Sclose(space);
    H5Zunregister(32768);
}

/* 96 MB of zeros in a few hundred kilobytes, with all checksums right. */
static void deflate_bomb(hid_t file, const char *array)
{
    const hsize_t shape[2] = {96, 1 << 20}, chunk[2] = {1, 1 << 20};
    uint8_t *zeros = calloc(96, 1 << 20);
    (void)array;
    must(zeros != NULL);
    hid_t space = H5Screate_simple(2, shape, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    must(H5Pset_chunk(create, 2, chunk) >= 0 && H5Pset_deflate(create, 1) >= 0);
    add_dataset(file, "bomb", H5T_STD_U8LE, space, create);
    hid_t d = H5Dopen2(file, "bomb", H5P_DEFAULT);
    must(H5Dwrite(d, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    H5Dclose(d);
    H5Pclose(create);
    H5Sclose(space);
    free(zeros);
    h5_attack_repair(file, "bomb");
}

static void deflate_twice(hid_t file, const char *array)
{
    const hsize_t n = 7;
    (void)array;
    hid_t space = H5Screate_simple(1, &n, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
    must(H5Pset_chunk(create, 1, &n) >= 0);
    must(H5Pset_deflate(create, 1) >= 0 && H5Pset_deflate(create, 1) >= 0);
    add_dataset(file, "filtered", H5T_STD_U8LE, space, create);
    H5Pclose(create);
    H5Sclose(space);
}

const h5_attack h5_attacks[] = {
    {"soft_link", soft_link, "soft: expected an object, found a soft link"},
    {"nested_soft_link", nested_soft_link, "found a soft link"},
    {"external_link", external_link, "ext: expected an object, found an external link"},
    {"group_cycle", group_cycle, "nest/root: expected an array, found a group in a group"},
    {"named_type", named_type, "type: expected an array, found a named type"},
    {"external_storage", external_storage,
     "outside: expected data in this file, found external storage"},
    {"virtual_dataset", virtual_dataset,
     "mirage: expected data in this file, found a virtual dataset"},
    {"other_filter", other_filter, "filtered: expected the filters"},
    {"big_endian", big_endian, "typed: expected a little-endian"},
    {"signed_bytes", signed_bytes, "typed: expected a little-endian"},
    {"variable_length", variable_length, "typed: expected a little-endian"},
    {"compound", compound, "typed: expected a little-endian"},
    {"scalar", scalar, "shaped: expected 1 to 4 dimensions, found 0"},
    {"five_dimensions", five_dimensions, "shaped: expected 1 to 4 dimensions, found 5"},
    {"no_elements", no_elements, "shaped: dimension 0 is 0"},
    {"extensible", extensible, "shaped: dimension 0 is 4, expected fixed"},
    {"hollow", hollow, "shaped: expected 1099511627776 stored bytes"},
    {"half_hollow", half_hollow, "shaped: expected 128 stored bytes"},
    {"overflowing", overflowing, "overflows"},
    {"huge_chunk", huge_chunk, "shaped: expected chunks of at most"},
    {"without_checksum", without_checksum, "crc32c, found none"},
    {"without_root_checksum", without_root_checksum, "attributes_crc32c, found none"},
    {"vlen_attribute", vlen_attribute, "vlen: expected int64"},
    {"vlen_root_attribute", vlen_root_attribute, "vlen: expected int64"},
    {"table_attribute", table_attribute, "table: expected a scalar"},
    {"float_attribute", float_attribute, "narrow: expected int64"},
    {"long_text", long_text, "long_text: 67108865 bytes of text, expected at most 67108864"},
    {"many_attributes", many_attributes, " attributes, expected at most 64"},
    {"extra_root_attribute", extra_root_attribute, "root attributes: expected checksum"},
    {"odd_name", odd_name, "unusable name"},
    {"plugin_filter", plugin_filter, "filtered: expected the filters"},
    {"deflate_twice", deflate_twice, "filtered: expected deflate once, found it twice"},
    {"long_list", long_list, "long_list: expected a scalar or a short list"},
    {"text_list", text_list, "text_list: expected int64"},
    {"text_with_zero", text_with_zero, "text: expected text, found a zero byte in it"},
    {"odd_attribute", odd_attribute, "has an unusable name"},
    {"long_attribute", long_attribute, "has an unusable name"},
    {"hollow_deflate", hollow_deflate, "shaped: expected 0 stored bytes or more"},
    {"fat_chunk", fat_chunk, "shaped: a chunk of 64 bytes takes 4096 in the file"},
    {"user_link", user_link, "user: expected an object, found another kind of link"},
    {"long_path", long_path, "unusable name"},
    {"deflate_bomb", deflate_bomb, "bomb: expected arrays of at most"},
};
const int h5_attack_count = sizeof h5_attacks / sizeof *h5_attacks;

/* ---- tools ---- */

hid_t h5_attack_open(const char *path)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_LATEST);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    H5Pclose(access);
    must(file >= 0);
    return file;
}

void h5_attack_repair(hid_t file, const char *array)
{
    must(h5_repair_array(file, array, SIZE_MAX) && h5_repair_root(file));
}

void h5_attack_poke(hid_t file, const char *array, size_t offset, const void *bytes, size_t size)
{
    hid_t d = H5Dopen2(file, array, H5P_DEFAULT);
    must(d >= 0);
    hid_t type = H5Dget_type(d), space = H5Dget_space(d);
    const size_t all = (size_t)H5Sget_simple_extent_npoints(space) * H5Tget_size(type);
    unsigned char *data = malloc(all);
    must(data && offset + size <= all &&
         H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    memcpy(data + offset, bytes, size);
    must(H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    free(data);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(d);
}

void h5_attack_text(hid_t file, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    H5Adelete(file, name);
    hid_t a = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    must(a >= 0 && H5Awrite(a, type, text) >= 0);
    H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
}
