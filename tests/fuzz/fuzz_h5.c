/* Recipes of changes to a valid HDF5 file (fuzz_h5.h). */
#include "fuzz_h5.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hostile/h5_repair.h"

/* What is left of a recipe; behind its end all bytes are 0. */
typedef struct recipe {
    const uint8_t *at;
    size_t left;
} recipe;

static unsigned take(recipe *r)
{
    if (r->left == 0)
        return 0;
    r->left--;
    return *r->at++;
}

static uint64_t take_u64(recipe *r)
{
    /* A byte for itself, or one of the numbers that hurt. */
    static const uint64_t numbers[] = {
        1u << 15,        1u << 16,        (1u << 20) + 1,  INT32_MAX,
        UINT32_MAX,      1ull << 32,      1ull << 40,      1ull << 53,
        INT64_MAX,       1ull << 63,      UINT64_MAX - 1,  UINT64_MAX,
        0x7ff0ull << 48, 0x7ff8ull << 48, 0xbff0ull << 48, 0x8000ull << 48};
    const unsigned b = take(r);
    return b < 240 ? b : numbers[b - 240];
}

/* ---- what is in the file ---- */

enum { OBJECTS = 32, NAME = 256 };

typedef struct contents {
    char names[OBJECTS][NAME];
    int count;
} contents;

static herr_t add_object(hid_t file, const char *name, const H5O_info_t *info, void *arg)
{
    contents *c = arg;
    (void)file;
    if (info->type == H5O_TYPE_DATASET && c->count < OBJECTS && strlen(name) < NAME)
        strcpy(c->names[c->count++], name);
    return 0;
}

/* A dataset of the file, or the root. */
static const char *pick(const contents *c, recipe *r)
{
    const unsigned i = take(r);
    return i == 255 || c->count == 0 ? "/" : c->names[i % (unsigned)c->count];
}

static const char *pick_attribute(recipe *r)
{
    static const char *const names[] = {
        "format",        "format_version", "config_json",     "tokenizer",  "tokenizer_json",
        "producer",      "encoding",       "shape",           "group_size", "crc32c",
        "step",          "tokens_seen",    "best_step",       "seed",       "data_index",
        "metrics_bytes", "best_val_loss",  "elapsed_s",       "device",     "attributes_crc32c",
        "other",         "a\nb",           "evals_since_best"};
    return names[take(r) % (sizeof names / sizeof *names)];
}

static hid_t pick_type(recipe *r)
{
    hid_t type;
    switch (take(r) % 12) {
    case 0:
        return H5Tcopy(H5T_STD_I64LE);
    case 1:
        return H5Tcopy(H5T_STD_U64LE);
    case 2:
        return H5Tcopy(H5T_IEEE_F64LE);
    case 3:
        return H5Tcopy(H5T_IEEE_F32LE);
    case 4:
        return H5Tcopy(H5T_STD_U8LE);
    case 5:
        return H5Tcopy(H5T_STD_U16LE);
    case 6:
        return H5Tcopy(H5T_IEEE_F32BE);
    case 7:
        return H5Tvlen_create(H5T_STD_U8LE);
    case 8:
        type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        return type;
    case 9:
        type = H5Tcreate(H5T_COMPOUND, 8);
        H5Tinsert(type, "a", 0, H5T_STD_I64LE);
        return type;
    case 10:
        return H5Tcreate(H5T_OPAQUE, 16);
    default: {
        const hsize_t two = 2;
        return H5Tarray_create2(H5T_STD_U8LE, 1, &two);
    }
    }
}

/* ---- changes ---- */

static void set_number(hid_t file, const contents *c, recipe *r)
{
    const char *object = pick(c, r), *name = pick_attribute(r);
    uint64_t values[8] = {0};
    hid_t type = pick_type(r);
    const unsigned n = take(r) % 9;
    const hsize_t dims[2] = {n, 1};
    hid_t space = n == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1 + (int)(n == 8), dims, NULL);
    for (unsigned i = 0; i < (n ? n : 1); i++)
        values[i] = take_u64(r);
    H5Adelete_by_name(file, object, name, H5P_DEFAULT);
    hid_t a =
        H5Acreate_by_name(file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (a >= 0) {
        /* Only plain types of 8 bytes and less are filled. */
        if (H5Tget_class(type) == H5T_INTEGER || H5Tget_class(type) == H5T_FLOAT)
            H5Awrite(a, type, values);
        H5Aclose(a);
    }
    H5Sclose(space);
    H5Tclose(type);
}

static void set_text(hid_t file, const contents *c, recipe *r)
{
    const char *object = pick(c, r), *name = pick_attribute(r);
    char text[256] = {0};
    const unsigned n = take(r);
    for (unsigned i = 0; i < n; i++)
        text[i] = (char)take(r);
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, n ? n : 1);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    H5Adelete_by_name(file, object, name, H5P_DEFAULT);
    hid_t a =
        H5Acreate_by_name(file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (a >= 0) {
        H5Awrite(a, type, text);
        H5Aclose(a);
    }
    H5Sclose(space);
    H5Tclose(type);
}

static void drop_attribute(hid_t file, const contents *c, recipe *r)
{
    const char *object = pick(c, r);
    H5Adelete_by_name(file, object, pick_attribute(r), H5P_DEFAULT);
}

static void drop_object(hid_t file, const contents *c, recipe *r)
{
    H5Ldelete(file, pick(c, r), H5P_DEFAULT);
}

/* Some bytes of some dataset. */
static void set_values(hid_t file, const contents *c, recipe *r)
{
    hid_t d = H5Dopen2(file, pick(c, r), H5P_DEFAULT);
    if (d < 0)
        return;
    hid_t type = H5Dget_type(d), space = H5Dget_space(d);
    const hssize_t n = H5Sget_simple_extent_npoints(space);
    const size_t bytes = n > 0 && n < 4096 ? (size_t)n * H5Tget_size(type) : 0;
    uint8_t *data = bytes ? calloc(1, bytes) : NULL;
    const H5T_class_t class = H5Tget_class(type);
    if (data && (class == H5T_INTEGER || class == H5T_FLOAT) &&
        H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0) {
        size_t at = take(r) << 8;
        at = (at | take(r)) % bytes;
        for (unsigned k = 1 + take(r) % 8; k-- > 0; at = (at + 1) % bytes)
            data[at] = (uint8_t)take(r);
        H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    }
    free(data);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(d);
}

/* A dataset of any type, shape, chunk and filters in the place of another, or
 * under a new name; its attributes are gone. */
static void set_array(hid_t file, const contents *c, recipe *r)
{
    static const uint8_t zeros[4096];
    const char *old = pick(c, r), *name = take(r) % 2 ? "new_scale" : old;
    hsize_t dims[5], chunk[5];
    uint64_t elements = 1;
    const int ndim = (int)(take(r) % 6);
    const unsigned how = take(r);
    for (int i = 0; i < ndim; i++) {
        dims[i] = take_u64(r);
        chunk[i] = 1 + take(r);
        chunk[i] = chunk[i] < dims[i] ? chunk[i] : dims[i] ? dims[i] : 1;
        if (__builtin_mul_overflow(elements, dims[i], &elements))
            elements = UINT64_MAX;
    }
    hid_t type = pick_type(r), create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = ndim ? H5Screate_simple(ndim, dims, NULL) : H5Screate(H5S_SCALAR);
    if (ndim && how & 1)
        H5Pset_chunk(create, ndim, chunk);
    if (ndim && how & 2)
        H5Pset_shuffle(create);
    if (ndim && how & 4)
        H5Pset_deflate(create, 1);
    if (ndim && how & 8)
        H5Pset_fletcher32(create);
    if (strcmp(name, "/") != 0)
        H5Ldelete(file, name, H5P_DEFAULT);
    hid_t d = space < 0 ? H5I_INVALID_HID
                        : H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (d >= 0) {
        const H5T_class_t class = H5Tget_class(type);
        if ((class == H5T_INTEGER || class == H5T_FLOAT) &&
            elements <= sizeof zeros / H5Tget_size(type))
            H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros);
        H5Dclose(d);
    }
    if (space >= 0)
        H5Sclose(space);
    H5Pclose(create);
    H5Tclose(type);
}

static void add_link(hid_t file, const contents *c, recipe *r)
{
    static const char *const names[] = {"link", "params/link", "a/b/c", "adam_m/link", "x_scale"};
    const char *target = pick(c, r), *name = names[take(r) % 5];
    switch (take(r) % 5) {
    case 0:
        H5Lcreate_soft(target, file, name, H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 1:
        H5Lcreate_external("/etc/passwd", target, file, name, H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 2:
        H5Lcreate_hard(file, target, file, name, H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 3:
        H5Lmove(file, target, file, name, H5P_DEFAULT, H5P_DEFAULT);
        break;
    default: {
        hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        if (group >= 0)
            H5Gclose(group);
    }
    }
}

static void (*const changes[])(hid_t file, const contents *c, recipe *r) = {
    set_number, set_text, drop_attribute, drop_object, set_values, set_array, add_link};
enum { CHANGES = sizeof changes / sizeof *changes, MAX_CHANGES = 8, REPAIR = 0xfe };

/* ---- checksums ---- */

static void repair(hid_t file)
{
    contents now = {0};
    H5Ovisit(file, H5_INDEX_NAME, H5_ITER_NATIVE, add_object, &now);
    for (int i = 0; i < now.count; i++)
        h5_repair_array(file, now.names[i], 1 << 16);
    h5_repair_root(file);
}

/* ---- files ---- */

static const char *const start = "\x89HDF\r\n\x1a\n";

typedef struct image {
    void *bytes;
    size_t size;
} image;

static const image *valid_image(void (*write_valid)(const char *path))
{
    static image valid;
    if (!valid.bytes) {
        const char *path = fuzz_path("valid.h5");
        write_valid(path);
        FILE *file = fopen(path, "rb");
        if (!file || !(valid.bytes = malloc(1 << 20)))
            fuzz_broken("no valid file");
        valid.size = fread(valid.bytes, 1, 1 << 20, file);
        fclose(file);
    }
    return &valid;
}

static void cook(hid_t file, recipe *r)
{
    contents c = {0};
    H5Ovisit(file, H5_INDEX_NAME, H5_ITER_NATIVE, add_object, &c);
    for (int i = 0; i < MAX_CHANGES && r->left > 0; i++) {
        const unsigned change = take(r);
        if (change == REPAIR)
            repair(file);
        else
            changes[change % CHANGES](file, &c, r);
    }
}

/* The library zeroes half a MiB for every file that it opens and would give it back
 * to the system after each; kept, an input takes a quarter less time. */
static void start_library(void)
{
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5set_free_list_limits(-1, -1, -1, -1, -1, -1);
}

const char *fuzz_h5_file(const uint8_t *data, size_t size, void (*write_valid)(const char *path))
{
    recipe r = {data, size};
    if (size >= 8 && memcmp(data, start, 8) == 0)
        return fuzz_file("file.h5", data, size);
    const image *valid = valid_image(write_valid);
    const char *path = fuzz_file("file.h5", valid->bytes, valid->size);
    start_library();
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_LATEST);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    H5Pclose(access);
    if (file < 0)
        fuzz_broken("the valid file cannot be opened");
    cook(file, &r);
    H5Fclose(file);
    return path;
}

void fuzz_h5_seeds(void (*write_valid)(const char *path))
{
    static const uint8_t some[] = {1, 6, 0, 2, 3, 5, 7, 11, 13, 1, 1, 4};
    const image *valid = valid_image(write_valid);
    fuzz_seed("valid.h5", valid->bytes, valid->size);
    fuzz_seed("unchanged", &(uint8_t){REPAIR}, 1);
    for (int i = 0; i < CHANGES; i++) {
        uint8_t bytes[2 + sizeof some] = {(uint8_t)i};
        char name[32];
        memcpy(bytes + 1, some, sizeof some);
        bytes[1 + sizeof some] = REPAIR;
        snprintf(name, sizeof name, "change_%d", i);
        fuzz_seed(name, bytes, sizeof bytes);
    }
}
