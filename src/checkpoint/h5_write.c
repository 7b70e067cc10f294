/* The writing half of h5file.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "checkpoint/crc32c.h"
#include "checkpoint/h5impl.h"

/* A root attribute as it enters the checksum. */
typedef struct root_attr {
    char *name;
    void *bytes;
    size_t size;
} root_attr;

struct bn_h5_writer {
    char *path, *temp;
    hid_t file;
    int deflate;
    int arrays;
    root_attr attrs[BN_H5_MAX_ATTRS];
    int attr_count;
};

static void writer_free(bn_h5_writer *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->attr_count; i++) {
        free(w->attrs[i].name);
        free(w->attrs[i].bytes);
    }
    free(w->path);
    free(w->temp);
    free(w);
}

bn_status bn_h5_create(const char *path, int deflate, bn_h5_writer **out)
{
    bn_status status = BN_FAIL;
    hid_t access = H5I_INVALID_HID, create = H5I_INVALID_HID;
    *out = NULL;
    bn_h5_start();
    bn_h5_writer *w = calloc(1, sizeof *w);
    if (!w)
        return bn_error_nomem("an HDF5 writer", sizeof *w);
    w->file = H5I_INVALID_HID;
    w->deflate = deflate;
    w->path = bn_strdup(path);
    w->temp = bn_format("%s.tmp", path);
    if (!w->path || !w->temp)
        goto out;
    BN_TRY_OUT(bn_fs_remove(w->temp));
    access = bn_h5_access_new();
    create = H5Pcreate(H5P_FILE_CREATE);
    if (create >= 0 && H5Pset_obj_track_times(create, false) >= 0)
        w->file = H5Fcreate(w->temp, H5F_ACC_EXCL, create, access);
    if (w->file < 0) {
        status = bn_h5_error(BN_IO, w->temp, NULL, "cannot create the file");
        unlink(w->temp);
        goto out;
    }
    *out = w;
    w = NULL;
    status = BN_OK;
out:
    if (access >= 0)
        H5Pclose(access);
    if (create >= 0)
        H5Pclose(create);
    writer_free(w);
    return status;
}

/* After a write that the system refused, the library would try again at every
 * close. So its descriptor is put on an
 * unnamed file in memory that takes the little that is left. */
static void divert(bn_h5_writer *w)
{
    void *handle = NULL;
    const int sink = memfd_create("bitnet-sink", MFD_CLOEXEC);
    if (sink < 0)
        return;
    if (H5Fget_vfd_handle(w->file, H5P_DEFAULT, &handle) >= 0)
        dup2(sink, *(int *)handle);
    close(sink);
}

void bn_h5_abort(bn_h5_writer *w)
{
    if (!w)
        return;
    bn_h5_start();
    if (w->file >= 0) {
        divert(w);
        H5Fclose(w->file);
    }
    unlink(w->temp);
    writer_free(w);
}

/* Halves the outermost dimension that can be halved until a chunk fits. */
static void chunk_shape(const bn_h5_array *a, hsize_t *chunk)
{
    size_t bytes = bn_h5_type_size(a->type);
    for (int i = 0; i < a->ndim; i++) {
        chunk[i] = (hsize_t)a->shape[i];
        bytes *= (size_t)a->shape[i];
    }
    while (bytes > BN_H5_CHUNK_BYTES) {
        int d = 0;
        while (chunk[d] == 1)
            d++;
        chunk[d] = (chunk[d] + 1) / 2;
        bytes = bn_h5_type_size(a->type);
        for (int i = 0; i < a->ndim; i++)
            bytes *= chunk[i];
    }
}

static bn_status array_bytes(const bn_h5_writer *w, const bn_h5_array *a, size_t *bytes)
{
    if (!bn_h5_name_ok(a->name, BN_H5_NAME_MAX, true))
        return bn_error(BN_FAIL, "%s: \"%s\" cannot be the name of an array", w->path, a->name);
    const bn_tensor t = bn_tensor_of(BN_F64, a->ndim, a->shape);
    BN_TRY(bn_tensor_check(&t, a->name));
    *bytes = (size_t)bn_tensor_numel(&t) * bn_h5_type_size(a->type);
    return BN_OK;
}

/* The group of an array's name, unless it is there; it records no times either. */
static bn_status make_group(const bn_h5_writer *w, const char *array)
{
    char name[BN_H5_NAME_MAX + 1];
    const size_t length = strcspn(array, "/");
    if (!array[length])
        return BN_OK;
    memcpy(name, array, length);
    name[length] = '\0';
    const htri_t known = H5Lexists(w->file, name, H5P_DEFAULT);
    if (known > 0)
        return BN_OK;
    hid_t group = H5I_INVALID_HID, create = H5Pcreate(H5P_GROUP_CREATE);
    if (known == 0 && create >= 0 && H5Pset_obj_track_times(create, false) >= 0)
        group = H5Gcreate2(w->file, name, H5P_DEFAULT, create, H5P_DEFAULT);
    const bn_status status =
        group >= 0 ? BN_OK : bn_h5_error(BN_IO, w->path, name, "cannot create the group");
    if (create >= 0)
        H5Pclose(create);
    if (group >= 0)
        H5Gclose(group);
    return status;
}

bn_status bn_h5_put(bn_h5_writer *w, const bn_h5_array *a)
{
    size_t bytes = 0;
    BN_TRY(array_bytes(w, a, &bytes));
    BN_TRY(make_group(w, a->name));
    hsize_t dims[BN_MAX_DIMS], chunk[BN_MAX_DIMS];
    for (int i = 0; i < a->ndim; i++)
        dims[i] = (hsize_t)a->shape[i];
    chunk_shape(a, chunk);

    bn_status status = BN_OK;
    hid_t dataset = H5I_INVALID_HID;
    hid_t type = bn_h5_type_new(a->type);
    hid_t space = H5Screate_simple(a->ndim, dims, NULL);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    if (type < 0 || space < 0 || create < 0 || H5Pset_chunk(create, a->ndim, chunk) < 0 ||
        H5Pset_fill_time(create, H5D_FILL_TIME_NEVER) < 0 ||
        H5Pset_obj_track_times(create, false) < 0 ||
        (w->deflate > 0 &&
         (H5Pset_shuffle(create) < 0 || H5Pset_deflate(create, (unsigned)w->deflate) < 0)) ||
        H5Pset_fletcher32(create) < 0) {
        status = bn_h5_error(BN_FAIL, w->path, a->name, "cannot describe the array");
        goto out;
    }
    dataset = H5Dcreate2(w->file, a->name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (dataset < 0) {
        status = bn_h5_error(BN_IO, w->path, a->name, "cannot create the array");
        goto out;
    }
    if (H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, a->data) < 0) {
        status = bn_h5_error(BN_IO, w->path, a->name, "cannot write the array");
        divert(w);
        goto out;
    }
    w->arrays++;
out:
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (create >= 0)
        H5Pclose(create);
    /* Closing flushes the last chunks. */
    if (dataset >= 0 && H5Dclose(dataset) < 0 && status == BN_OK)
        status = bn_h5_error(BN_IO, w->path, a->name, "cannot write the array");
    if (status == BN_OK)
        status = bn_h5_put_u64(w, a->name, BN_H5_CRC, bn_crc32c(0, a->data, bytes));
    return status;
}

/* Writes an attribute and closes `type` and `space`. */
static bn_status put_attr(bn_h5_writer *w, const char *object, const char *name, hid_t type,
                          hid_t space, const void *data)
{
    bn_status status = BN_OK;
    hid_t attr = H5I_INVALID_HID;
    hid_t owner = H5I_INVALID_HID;
    if (!bn_h5_name_ok(name, BN_H5_ATTR_NAME_MAX, false)) {
        status = bn_error(BN_FAIL, "%s: \"%s\" cannot be the name of an attribute", w->path, name);
        goto out;
    }
    owner = H5Oopen(w->file, object ? object : "/", H5P_DEFAULT);
    if (owner >= 0)
        attr = H5Acreate2(owner, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0 || H5Awrite(attr, type, data) < 0)
        status = bn_h5_error(BN_IO, w->path, name, "cannot write the attribute");
out:
    if (attr >= 0 && H5Aclose(attr) < 0 && status == BN_OK)
        status = bn_h5_error(BN_IO, w->path, name, "cannot write the attribute");
    if (owner >= 0)
        H5Oclose(owner);
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    return status;
}

/* Notes a root attribute for the checksum. */
static bn_status note_root(bn_h5_writer *w, const char *object, const char *name, const void *bytes,
                           size_t size)
{
    if (object)
        return BN_OK;
    if (w->attr_count == BN_H5_MAX_ATTRS - 1) /* one is left for the checksum */
        return bn_error(BN_FAIL, "%s: %s: more than %d root attributes", w->path, name,
                        BN_H5_MAX_ATTRS - 1);
    root_attr *a = &w->attrs[w->attr_count];
    a->name = bn_strdup(name);
    a->bytes = malloc(size ? size : 1);
    a->size = size;
    w->attr_count++;
    if (!a->name || !a->bytes)
        return bn_error_nomem(name, size);
    memcpy(a->bytes, bytes, size);
    return BN_OK;
}

static bn_status put_scalar(bn_h5_writer *w, const char *object, const char *name, bn_h5_type type,
                            const void *value)
{
    BN_TRY(note_root(w, object, name, value, bn_h5_type_size(type)));
    return put_attr(w, object, name, bn_h5_type_new(type), H5Screate(H5S_SCALAR), value);
}

bn_status bn_h5_put_i64(bn_h5_writer *w, const char *object, const char *name, int64_t value)
{
    return put_scalar(w, object, name, BN_H5_I64, &value);
}

bn_status bn_h5_put_u64(bn_h5_writer *w, const char *object, const char *name, uint64_t value)
{
    return put_scalar(w, object, name, BN_H5_U64, &value);
}

bn_status bn_h5_put_f64(bn_h5_writer *w, const char *object, const char *name, double value)
{
    return put_scalar(w, object, name, BN_H5_F64, &value);
}

bn_status bn_h5_put_i64s(bn_h5_writer *w, const char *object, const char *name, int count,
                         const int64_t *values)
{
    const hsize_t n = (hsize_t)count;
    BN_TRY(note_root(w, object, name, values, (size_t)count * sizeof *values));
    return put_attr(w, object, name, bn_h5_type_new(BN_H5_I64), H5Screate_simple(1, &n, NULL),
                    values);
}

bn_status bn_h5_put_string(bn_h5_writer *w, const char *object, const char *name, const char *value)
{
    const size_t size = strlen(value);
    if (size > BN_H5_STRING_MAX)
        return bn_error(BN_FAIL, "%s: %s: %zu bytes of text, at most %d are possible", w->path,
                        name, size, BN_H5_STRING_MAX);
    BN_TRY(note_root(w, object, name, value, size));
    return put_attr(w, object, name, bn_h5_string_type_new(size ? size : 1), H5Screate(H5S_SCALAR),
                    value);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const root_attr *)a)->name, ((const root_attr *)b)->name);
}

static bn_status put_root_crc(bn_h5_writer *w)
{
    uint32_t crc = 0;
    qsort(w->attrs, (size_t)w->attr_count, sizeof *w->attrs, by_name);
    for (int i = 0; i < w->attr_count; i++) {
        crc = bn_crc32c(crc, w->attrs[i].name, strlen(w->attrs[i].name) + 1);
        crc = bn_crc32c(crc, w->attrs[i].bytes, w->attrs[i].size);
    }
    const uint64_t value = crc;
    return put_attr(w, NULL, BN_H5_ROOT_CRC, bn_h5_type_new(BN_H5_U64), H5Screate(H5S_SCALAR),
                    &value);
}

/* Reads the closed temporary file back. */
static bn_status verify_temp(const bn_h5_writer *w)
{
    bn_h5_reader *r = NULL;
    BN_TRY(bn_h5_open(w->temp, &r));
    bn_status status = bn_h5_verify(r);
    if (status == BN_OK && bn_h5_count(r) != w->arrays)
        status = bn_error(BN_BAD_DATA, "%s: %d arrays written, %d found", w->temp, w->arrays,
                          bn_h5_count(r));
    bn_h5_close(r);
    return status;
}

bn_status bn_h5_commit(bn_h5_writer *w)
{
    bn_status status;
    bn_h5_start();
    BN_TRY_OUT(put_root_crc(w));
    if (H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0) {
        status = bn_h5_error(BN_IO, w->path, NULL, "cannot write the file");
        goto out;
    }
    const herr_t closed = H5Fclose(w->file);
    w->file = H5I_INVALID_HID;
    if (closed < 0) {
        status = bn_h5_error(BN_IO, w->path, NULL, "cannot close the file");
        goto out;
    }
    BN_TRY_OUT(bn_fs_sync(w->temp));
    status = verify_temp(w);
    if (status == BN_BAD_DATA) /* what came back is not what went out */
        status = BN_IO;
    if (status != BN_OK)
        goto out;
    BN_TRY_OUT(bn_fs_commit(w->temp, w->path));
    writer_free(w);
    return BN_OK;
out:
    bn_h5_abort(w);
    return status;
}
