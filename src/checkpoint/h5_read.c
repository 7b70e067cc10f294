/* The reading half of h5file.h: nothing in a file is taken at its word. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fs.h"
#include "base/text.h"
#include "checkpoint/crc32c.h"
#include "checkpoint/h5impl.h"

enum {
    PIECE_BYTES = 4 << 20,    /* read at once when verifying */
    DEFLATE_RATIO_MAX = 1100, /* deflate cannot do better than 1032:1 */
    /* What a file may become in memory: so many times its size, and a little
     * that is free. Codes and floats of a trained model hardly compress. */
    EXPANSION_MAX = 32,
    EXPANSION_FREE = 64 << 20,
};

static const char *shape_text(int ndim, const int64_t *shape, char *text, size_t size)
{
    const bn_tensor t = bn_tensor_of(BN_U8, ndim, shape);
    return bn_tensor_shape_text(&t, text, size);
}

/* ---- structure ---- */

/* No place but this file, no code but the three filters, chunks of a sane
 * size; fills chunk[] (all 0 if not chunked) and *deflate. */
static bn_status layout_check(const bn_h5_reader *r, const bn_h5_entry *e, hid_t create,
                              hsize_t *chunk, bool *deflate)
{
    const H5D_layout_t layout = H5Pget_layout(create);
    *deflate = false;
    if (layout == H5D_VIRTUAL)
        return bn_error(BN_BAD_DATA, "%s: %s: expected data in this file, found a virtual dataset",
                        r->path, e->name);
    if (H5Pget_external_count(create) != 0)
        return bn_error(BN_BAD_DATA, "%s: %s: expected data in this file, found external storage",
                        r->path, e->name);
    if (layout != H5D_CHUNKED && layout != H5D_CONTIGUOUS && layout != H5D_COMPACT)
        return bn_error(BN_BAD_DATA, "%s: %s: expected chunked storage, found another layout",
                        r->path, e->name);
    const int filters = H5Pget_nfilters(create);
    if (filters < 0)
        return bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read the filters");
    for (int i = 0; i < filters; i++) {
        size_t values = 0;
        unsigned flags;
        const H5Z_filter_t id =
            H5Pget_filter2(create, (unsigned)i, &flags, &values, NULL, 0, NULL, NULL);
        if (id != H5Z_FILTER_DEFLATE && id != H5Z_FILTER_SHUFFLE && id != H5Z_FILTER_FLETCHER32)
            return bn_error(BN_BAD_DATA,
                            "%s: %s: expected the filters shuffle, deflate or fletcher32, found "
                            "filter %d",
                            r->path, e->name, (int)id);
        if (id == H5Z_FILTER_DEFLATE && *deflate)
            return bn_error(BN_BAD_DATA, "%s: %s: expected deflate once, found it twice", r->path,
                            e->name);
        *deflate |= id == H5Z_FILTER_DEFLATE;
    }
    if (layout == H5D_CHUNKED && H5Pget_chunk(create, BN_MAX_DIMS, chunk) < 1)
        return bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read the chunk size");
    return BN_OK;
}

/* Type and dimensions of an open dataset into the entry. */
static bn_status shape_check(const bn_h5_reader *r, bn_h5_entry *e, hid_t dataset)
{
    bn_status status = BN_OK;
    hsize_t dims[BN_MAX_DIMS], most[BN_MAX_DIMS];
    hid_t space = H5Dget_space(dataset);
    hid_t type = H5Dget_type(dataset);
    if (space < 0 || type < 0) {
        status = bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read type and shape");
        goto out;
    }
    int t = 0;
    for (; t < BN_H5_TYPE_COUNT; t++) {
        hid_t known = bn_h5_type_new((bn_h5_type)t);
        const htri_t same = H5Tequal(type, known);
        H5Tclose(known);
        if (same > 0)
            break;
    }
    if (t == BN_H5_TYPE_COUNT) {
        status = bn_error(BN_BAD_DATA,
                          "%s: %s: expected a little-endian float16/32/64, uint8/16/64 or int64 "
                          "array, found another type",
                          r->path, e->name);
        goto out;
    }
    const int ndim = H5Sget_simple_extent_ndims(space);
    if (H5Sget_simple_extent_type(space) != H5S_SIMPLE || ndim < 1 || ndim > BN_MAX_DIMS) {
        status = bn_error(BN_BAD_DATA, "%s: %s: expected 1 to %d dimensions, found %d", r->path,
                          e->name, BN_MAX_DIMS, ndim);
        goto out;
    }
    if (H5Sget_simple_extent_dims(space, dims, most) < 0) {
        status = bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read the shape");
        goto out;
    }
    e->type = (bn_h5_type)t;
    e->ndim = ndim;
    for (int i = 0; i < ndim; i++) {
        if (dims[i] < 1 || dims[i] > INT64_MAX || most[i] != dims[i]) {
            status = bn_error(BN_BAD_DATA, "%s: %s: dimension %d is %llu, expected fixed and >= 1",
                              r->path, e->name, i, (unsigned long long)dims[i]);
            goto out;
        }
        e->shape[i] = (int64_t)dims[i];
    }
    const bn_tensor as_tensor = bn_tensor_of(BN_F64, ndim, e->shape);
    status = bn_error_in(bn_tensor_check(&as_tensor, e->name), r->path);
    e->bytes = status == BN_OK ? (size_t)bn_tensor_numel(&as_tensor) * bn_h5_type_size(e->type) : 0;
out:
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return status;
}

/* A compressed chunk may not claim more than it could ever hold: visits the
 * chunks by their first element. */
static bn_status chunks_check(const bn_h5_reader *r, const bn_h5_entry *e, hid_t dataset,
                              const hsize_t *chunk, hsize_t chunk_bytes)
{
    hsize_t at[BN_MAX_DIMS] = {0};
    for (;;) {
        unsigned mask;
        haddr_t address;
        hsize_t size = 0;
        if (H5Dget_chunk_info_by_coord(dataset, at, &mask, &address, &size) < 0)
            return bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read the chunk index");
        if (size > chunk_bytes + chunk_bytes / 64 + 1024)
            return bn_error(BN_BAD_DATA, "%s: %s: a chunk of %llu bytes takes %llu in the file",
                            r->path, e->name, (unsigned long long)chunk_bytes,
                            (unsigned long long)size);
        int d = e->ndim - 1;
        for (; d >= 0; d--) {
            at[d] += chunk[d];
            if (at[d] < (hsize_t)e->shape[d])
                break;
            at[d] = 0;
        }
        if (d < 0)
            return BN_OK;
    }
}

/* Whether the file can hold what the shape promises. */
static bn_status storage_check(const bn_h5_reader *r, bn_h5_entry *e, hid_t dataset,
                               const hsize_t *chunk, bool deflate)
{
    e->stored_bytes = H5Dget_storage_size(dataset);
    const uint64_t least = deflate ? e->bytes / DEFLATE_RATIO_MAX : e->bytes;
    if (e->stored_bytes < least || e->stored_bytes > r->file_bytes || e->stored_bytes == 0) {
        char shape[128];
        return bn_error(BN_BAD_DATA,
                        "%s: %s: expected %llu stored bytes or more for %s %s, found %llu in a "
                        "file of %llu",
                        r->path, e->name, (unsigned long long)least, bn_h5_type_name(e->type),
                        shape_text(e->ndim, e->shape, shape, sizeof shape),
                        (unsigned long long)e->stored_bytes, (unsigned long long)r->file_bytes);
    }
    if (chunk[0] == 0)
        return BN_OK;
    hsize_t chunk_bytes = bn_h5_type_size(e->type);
    for (int i = 0; i < e->ndim; i++)
        if (chunk[i] == 0 || __builtin_mul_overflow(chunk_bytes, chunk[i], &chunk_bytes) ||
            chunk_bytes > BN_H5_CHUNK_BYTES_MAX)
            return bn_error(BN_BAD_DATA, "%s: %s: expected chunks of at most %d bytes, found more",
                            r->path, e->name, BN_H5_CHUNK_BYTES_MAX);
    return deflate ? chunks_check(r, e, dataset, chunk, chunk_bytes) : BN_OK;
}

static bn_status add_dataset(bn_h5_reader *r, const char *name, hid_t dataset)
{
    bn_h5_entry e = {0};
    bn_status status;
    hsize_t chunk[BN_MAX_DIMS] = {0};
    bool deflate;
    memcpy(e.name, name, strlen(name) + 1); /* bn_h5_name_ok: it fits */
    hid_t create = H5Dget_create_plist(dataset);
    if (create < 0)
        return bn_h5_error(BN_BAD_DATA, r->path, name, "cannot read the layout");
    status = layout_check(r, &e, create, chunk, &deflate);
    H5Pclose(create);
    if (status != BN_OK)
        return status;
    BN_TRY(shape_check(r, &e, dataset));
    BN_TRY(storage_check(r, &e, dataset, chunk, deflate));
    BN_TRY(bn_h5_attrs_check(r, name, dataset, NULL));
    if (r->count == r->capacity) {
        const int capacity = r->capacity ? 2 * r->capacity : 64;
        bn_h5_entry *more = realloc(r->entries, (size_t)capacity * sizeof *more);
        if (!more)
            return bn_error_nomem("the list of arrays", (size_t)capacity * sizeof *more);
        r->entries = more;
        r->capacity = capacity;
    }
    r->entries[r->count++] = e;
    return BN_OK;
}

int bn_h5_max_objects = BN_H5_MAX_ARRAYS;

typedef struct name_list {
    bn_h5_reader *r;
    bn_strings names;
    bn_status status;
} name_list;

static herr_t list_name(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    name_list *list = arg;
    (void)group;
    if (!bn_h5_name_ok(name, BN_H5_NAME_MAX, false))
        list->status = bn_error(BN_BAD_DATA, "%s: an object has an unusable name", list->r->path);
    else if (info->type != H5L_TYPE_HARD)
        list->status =
            bn_error(BN_BAD_DATA, "%s: %s: expected an object, found %s link", list->r->path, name,
                     info->type == H5L_TYPE_SOFT       ? "a soft"
                     : info->type == H5L_TYPE_EXTERNAL ? "an external"
                                                       : "another kind of");
    else if (list->r->objects++ == bn_h5_max_objects)
        list->status = bn_error(BN_BAD_DATA, "%s: expected at most %d objects, found more",
                                list->r->path, bn_h5_max_objects);
    else
        list->status = bn_strings_add(&list->names, name);
    return list->status == BN_OK ? 0 : 1;
}

/* Visits the objects of a group: "" is the root, whose groups are visited in
 * turn; a group in a group is refused, which also ends every cycle. */
static bn_status scan_group(bn_h5_reader *r, const char *group, hid_t id)
{
    name_list list = {.r = r};
    bn_status status = BN_OK;
    hsize_t next = 0;
    const herr_t done = H5Literate(id, H5_INDEX_NAME, H5_ITER_NATIVE, &next, list_name, &list);
    if (done < 0)
        status = bn_h5_error(BN_BAD_DATA, r->path, *group ? group : "/", "cannot list the group");
    else
        status = list.status;
    for (size_t i = 0; i < list.names.count && status == BN_OK; i++) {
        char name[2 * BN_H5_NAME_MAX + 2];
        snprintf(name, sizeof name, "%s%s%s", group, *group ? "/" : "", list.names.items[i]);
        if (!bn_h5_name_ok(name, BN_H5_NAME_MAX, true)) {
            status = bn_error(BN_BAD_DATA, "%s: %s: unusable name", r->path, name);
            break;
        }
        hid_t object = H5Oopen(id, list.names.items[i], H5P_DEFAULT);
        const H5I_type_t kind = object < 0 ? H5I_BADID : H5Iget_type(object);
        if (object < 0)
            status = bn_h5_error(BN_BAD_DATA, r->path, name, "cannot open the object");
        else if (kind == H5I_DATASET)
            status = add_dataset(r, name, object);
        else if (kind == H5I_GROUP && !*group)
            status = scan_group(r, name, object);
        else
            status = bn_error(BN_BAD_DATA, "%s: %s: expected an array, found a %s", r->path, name,
                              kind == H5I_GROUP ? "group in a group" : "named type");
        if (object >= 0)
            H5Oclose(object);
    }
    bn_strings_clear(&list.names);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const bn_h5_entry *)a)->name, ((const bn_h5_entry *)b)->name);
}

/* A small file may not fill the memory: deflate makes a thousand zeros a byte. */
static bn_status expansion_check(const bn_h5_reader *r)
{
    const uint64_t most = EXPANSION_FREE + EXPANSION_MAX * (uint64_t)r->file_bytes;
    uint64_t all = 0;
    for (int i = 0; i < r->count; all += r->entries[i++].bytes)
        if (r->entries[i].bytes > most - all)
            return bn_error(BN_BAD_DATA,
                            "%s: %s: expected arrays of at most %llu bytes in a file of %llu, "
                            "found more",
                            r->path, r->entries[i].name, (unsigned long long)most,
                            (unsigned long long)r->file_bytes);
    return BN_OK;
}

static bn_status scan(bn_h5_reader *r)
{
    hid_t root = H5Gopen2(r->file, "/", H5P_DEFAULT);
    if (root < 0)
        return bn_h5_error(BN_BAD_DATA, r->path, NULL, "cannot open the root group");
    uint32_t crc = 0;
    uint64_t stored = 0;
    bn_status status = bn_h5_attrs_check(r, "/", root, &crc);
    if (status == BN_OK)
        status = bn_h5_get_u64(r, NULL, BN_H5_ROOT_CRC, &stored);
    if (status == BN_OK && stored != crc)
        status = bn_error(BN_BAD_DATA, "%s: root attributes: expected checksum %08llx, found %08x",
                          r->path, (unsigned long long)stored, crc);
    if (status == BN_OK)
        status = scan_group(r, "", root);
    H5Gclose(root);
    if (status != BN_OK)
        return status;
    BN_TRY(expansion_check(r));
    if (r->count > 1)
        qsort(r->entries, (size_t)r->count, sizeof *r->entries, by_name);
    for (int i = 0; i < r->count; i++) {
        uint64_t sum;
        BN_TRY(bn_h5_get_u64(r, r->entries[i].name, BN_H5_CRC, &sum));
        if (sum > UINT32_MAX)
            return bn_error(BN_BAD_DATA, "%s: %s: %s: expected 32 bits, found %llu", r->path,
                            r->entries[i].name, BN_H5_CRC, (unsigned long long)sum);
        r->entries[i].crc = (uint32_t)sum;
    }
    return BN_OK;
}

/* ---- opening and reading ---- */

bn_status bn_h5_open(const char *path, bn_h5_reader **out)
{
    return bn_h5_child_wanted() ? bn_h5_child_open(path, out) : bn_h5_open_here(path, out);
}

bn_status bn_h5_open_here(const char *path, bn_h5_reader **out)
{
    struct stat st;
    bn_status status = BN_FAIL;
    hid_t properties = H5I_INVALID_HID;
    *out = NULL;
    bn_h5_start();
    if (stat(path, &st) != 0 || access(path, R_OK) != 0)
        return bn_error(BN_NO_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return bn_error(BN_BAD_DATA, "%s: expected a file, found %s", path,
                        S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    bn_h5_reader *r = calloc(1, sizeof *r);
    if (!r)
        return bn_error_nomem("an HDF5 reader", sizeof *r);
    r->file = H5I_INVALID_HID;
    r->path = bn_strdup(path);
    if (!r->path)
        goto out;
    properties = bn_h5_access_new();
    r->file = H5Fopen(path, H5F_ACC_RDONLY, properties);
    if (r->file < 0) {
        status = bn_h5_error(BN_BAD_DATA, path, NULL, "not a whole HDF5 file");
        goto out;
    }
    r->file_bytes = (hsize_t)st.st_size;
    BN_TRY_OUT(scan(r));
    *out = r;
    r = NULL;
out:
    if (properties >= 0)
        H5Pclose(properties);
    bn_h5_close(r);
    return status;
}

void bn_h5_close(bn_h5_reader *r)
{
    if (!r)
        return;
    if (r->file >= 0) {
        bn_h5_start();
        H5Fclose(r->file);
    }
    bn_h5_child_close(r->child);
    free(r->entries);
    free(r->path);
    free(r);
}

const char *bn_h5_path(const bn_h5_reader *r)
{
    return r->path;
}

int bn_h5_count(const bn_h5_reader *r)
{
    return r->count;
}

const bn_h5_entry *bn_h5_at(const bn_h5_reader *r, int i)
{
    return &r->entries[i];
}

const bn_h5_entry *bn_h5_find(const bn_h5_reader *r, const char *name)
{
    int lo = 0, hi = r->count;
    while (lo < hi) {
        const int mid = (lo + hi) / 2;
        const int order = strcmp(name, r->entries[mid].name);
        if (order == 0)
            return &r->entries[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

bn_status bn_h5_expect(const bn_h5_reader *r, const char *name, bn_h5_type type, int ndim,
                       const int64_t *shape, const bn_h5_entry **out)
{
    char wanted[128], found[128];
    const bn_h5_entry *e = bn_h5_find(r, name);
    shape_text(ndim, shape, wanted, sizeof wanted);
    *out = NULL;
    if (!e)
        return bn_error(BN_BAD_DATA, "%s: %s: expected %s %s, found no such array", r->path, name,
                        bn_h5_type_name(type), wanted);
    if (e->type != type || e->ndim != ndim ||
        memcmp(e->shape, shape, (size_t)ndim * sizeof *shape) != 0)
        return bn_error(BN_BAD_DATA, "%s: %s: expected %s %s, found %s %s", r->path, name,
                        bn_h5_type_name(type), wanted, bn_h5_type_name(e->type),
                        shape_text(e->ndim, e->shape, found, sizeof found));
    *out = e;
    return BN_OK;
}

static bn_status crc_check(const bn_h5_reader *r, const bn_h5_entry *e, uint32_t crc)
{
    if (crc != e->crc)
        return bn_error(BN_BAD_DATA, "%s: %s: expected checksum %08x, found %08x", r->path, e->name,
                        e->crc, crc);
    return BN_OK;
}

bn_status bn_h5_read(bn_h5_reader *r, const bn_h5_entry *e, void *data)
{
    bn_status status = BN_OK;
    if (r->child)
        return bn_h5_child_read(r, e, data);
    bn_h5_start();
    hid_t type = bn_h5_type_new(e->type);
    hid_t dataset = H5Dopen2(r->file, e->name, H5P_DEFAULT);
    if (type < 0 || dataset < 0 || H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read the array");
    else
        status = crc_check(r, e, bn_crc32c(0, data, e->bytes));
    if (dataset >= 0)
        H5Dclose(dataset);
    if (type >= 0)
        H5Tclose(type);
    return status;
}

/* Rows of the first dimension that make a piece: a few MiB, whole chunks. */
static hsize_t piece_rows(const bn_h5_entry *e, hid_t dataset)
{
    hsize_t chunk[BN_MAX_DIMS] = {1};
    hid_t create = H5Dget_create_plist(dataset);
    if (create >= 0) {
        if (H5Pget_layout(create) == H5D_CHUNKED)
            H5Pget_chunk(create, BN_MAX_DIMS, chunk);
        H5Pclose(create);
    }
    const hsize_t all = (hsize_t)e->shape[0];
    const hsize_t block_bytes = e->bytes / all * chunk[0];
    const hsize_t blocks = block_bytes < PIECE_BYTES ? PIECE_BYTES / block_bytes : 1;
    return blocks * chunk[0] < all ? blocks * chunk[0] : all;
}

bn_status bn_h5_read_pieces(const bn_h5_reader *r, const bn_h5_entry *e, bn_h5_take take, void *arg)
{
    bn_status status = BN_OK;
    hid_t memory = H5I_INVALID_HID;
    hid_t space = H5I_INVALID_HID;
    hid_t type = bn_h5_type_new(e->type);
    hid_t dataset = H5Dopen2(r->file, e->name, H5P_DEFAULT);
    void *data = NULL;
    uint32_t crc = 0;
    if (dataset >= 0)
        space = H5Dget_space(dataset);
    if (type < 0 || space < 0) {
        status = bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read the array");
        goto out;
    }
    const hsize_t step = piece_rows(e, dataset);
    const size_t row_bytes = e->bytes / (size_t)e->shape[0];
    data = malloc(step * row_bytes);
    if (!data) {
        status = bn_error_nomem(e->name, step * row_bytes);
        goto out;
    }
    for (hsize_t at = 0; at < (hsize_t)e->shape[0]; at += step) {
        hsize_t start[BN_MAX_DIMS] = {at}, size[BN_MAX_DIMS];
        for (int i = 0; i < e->ndim; i++)
            size[i] = (hsize_t)e->shape[i];
        size[0] = size[0] - at < step ? size[0] - at : step;
        memory = H5Screate_simple(e->ndim, size, NULL);
        if (memory < 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) < 0 ||
            H5Dread(dataset, type, memory, space, H5P_DEFAULT, data) < 0) {
            status = bn_h5_error(BN_BAD_DATA, r->path, e->name, "cannot read the array");
            goto out;
        }
        H5Sclose(memory);
        memory = H5I_INVALID_HID;
        crc = bn_crc32c(crc, data, size[0] * row_bytes);
        if (take)
            BN_TRY_OUT(take(arg, data, size[0] * row_bytes));
    }
    status = crc_check(r, e, crc);
out:
    free(data);
    if (memory >= 0)
        H5Sclose(memory);
    if (space >= 0)
        H5Sclose(space);
    if (dataset >= 0)
        H5Dclose(dataset);
    if (type >= 0)
        H5Tclose(type);
    return status;
}

bn_status bn_h5_verify(bn_h5_reader *r)
{
    if (r->child)
        return bn_h5_child_verify(r);
    bn_h5_start();
    for (int i = 0; i < r->count; i++)
        BN_TRY(bn_h5_read_pieces(r, &r->entries[i], NULL, NULL));
    return BN_OK;
}
