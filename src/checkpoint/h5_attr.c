/* Reading attributes (h5file.h): types, counts and sizes before memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "checkpoint/crc32c.h"
#include "checkpoint/h5impl.h"

static const char *const attr_kind_name[] = {
    [BN_H5_ATTR_I64] = "int64",
    [BN_H5_ATTR_U64] = "uint64",
    [BN_H5_ATTR_F64] = "float64",
    [BN_H5_ATTR_STRING] = "a string",
};

/* Kind and size of an open attribute. */
static bn_status attr_describe(const bn_h5_reader *r, const char *what, hid_t type, hid_t space,
                               bn_h5_attr *v, size_t *bytes)
{
    static const struct {
        bn_h5_type type;
        int kind;
    } kinds[] = {
        {BN_H5_I64, BN_H5_ATTR_I64}, {BN_H5_U64, BN_H5_ATTR_U64}, {BN_H5_F64, BN_H5_ATTR_F64}};
    const H5S_class_t space_class = H5Sget_simple_extent_type(space);
    const hssize_t n = H5Sget_simple_extent_npoints(space);
    v->scalar = space_class == H5S_SCALAR;
    if (n < 1 || (!v->scalar && (space_class != H5S_SIMPLE ||
                                 H5Sget_simple_extent_ndims(space) != 1 || n > BN_H5_MAX_ATTRS)))
        return bn_error(BN_BAD_DATA, "%s: %s: expected a scalar or a short list, found neither",
                        r->path, what);
    if (H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 && v->scalar) {
        v->kind = BN_H5_ATTR_STRING;
        *bytes = H5Tget_size(type);
        if (*bytes < 1 || *bytes > BN_H5_STRING_MAX)
            return bn_error(BN_BAD_DATA, "%s: %s: %zu bytes of text, expected at most %d", r->path,
                            what, *bytes, BN_H5_STRING_MAX);
        return BN_OK;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        hid_t known = bn_h5_type_new(kinds[i].type);
        const htri_t same = H5Tequal(type, known);
        H5Tclose(known);
        if (same > 0) {
            v->kind = kinds[i].kind;
            v->count = (int64_t)n;
            *bytes = (size_t)n * 8;
            return BN_OK;
        }
    }
    return bn_error(BN_BAD_DATA,
                    "%s: %s: expected int64, uint64, float64 or a fixed-length string, found "
                    "another type",
                    r->path, what);
}

/* Reads an open attribute; `what` names it in messages. Frees nothing of the
 * caller's; v->bytes is the caller's to free. */
static bn_status attr_read(const bn_h5_reader *r, const char *what, hid_t attr, bn_h5_attr *v)
{
    bn_status status = BN_OK;
    hid_t type = H5Aget_type(attr);
    hid_t space = H5Aget_space(attr);
    hid_t memory = H5I_INVALID_HID;
    size_t bytes = 0;
    *v = (bn_h5_attr){0};
    if (type < 0 || space < 0) {
        status = bn_h5_error(BN_BAD_DATA, r->path, what, "cannot read the attribute");
        goto out;
    }
    BN_TRY_OUT(attr_describe(r, what, type, space, v, &bytes));
    v->bytes = calloc(1, bytes + 1);
    if (!v->bytes) {
        status = bn_error_nomem(what, bytes);
        goto out;
    }
    memory = H5Tcopy(type);
    if (memory < 0 || H5Aread(attr, memory, v->bytes) < 0) {
        status = bn_h5_error(BN_BAD_DATA, r->path, what, "cannot read the attribute");
        goto out;
    }
    if (v->kind == BN_H5_ATTR_STRING) {
        v->count = (int64_t)strlen((char *)v->bytes);
        for (size_t i = (size_t)v->count; i < bytes; i++)
            if (v->bytes[i]) {
                status = bn_error(BN_BAD_DATA, "%s: %s: expected text, found a zero byte in it",
                                  r->path, what);
                goto out;
            }
    }
out:
    if (memory >= 0)
        H5Tclose(memory);
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (status != BN_OK) {
        free(v->bytes);
        v->bytes = NULL;
    }
    return status;
}

/* "object: name", or "name" for the root. */
static void attr_label(char *text, size_t size, const char *object, const char *name)
{
    snprintf(text, size, "%s%s%s", object ? object : "", object ? ": " : "", name);
}

bn_status bn_h5_attr_get(const bn_h5_reader *r, const char *object, const char *name, bn_h5_attr *v)
{
    char what[BN_H5_NAME_MAX + BN_H5_ATTR_NAME_MAX + 8];
    if (r->child)
        return bn_h5_child_attr_get(r, object, name, v);
    attr_label(what, sizeof what, object, name);
    *v = (bn_h5_attr){0};
    bn_h5_start();
    if (object && !bn_h5_find(r, object))
        return bn_error(BN_BAD_DATA, "%s: %s: expected an array of this name, found none", r->path,
                        object);
    const char *owner = object ? object : "/";
    if (H5Aexists_by_name(r->file, owner, name, H5P_DEFAULT) <= 0)
        return bn_error(BN_BAD_DATA, "%s: expected an attribute %s, found none", r->path, what);
    hid_t attr = H5Aopen_by_name(r->file, owner, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0)
        return bn_h5_error(BN_BAD_DATA, r->path, what, "cannot open the attribute");
    bn_status status = attr_read(r, what, attr, v);
    H5Aclose(attr);
    return status;
}

bool bn_h5_has_attr(bn_h5_reader *r, const char *object, const char *name)
{
    if (r->child)
        return bn_h5_child_has_attr(r, object, name);
    bn_h5_start();
    return (!object || bn_h5_find(r, object)) &&
           H5Aexists_by_name(r->file, object ? object : "/", name, H5P_DEFAULT) > 0;
}

static bn_status get_scalar(const bn_h5_reader *r, const char *object, const char *name, int kind,
                            void *value)
{
    bn_h5_attr v;
    BN_TRY(bn_h5_attr_get(r, object, name, &v));
    bn_status status = BN_OK;
    if ((int)v.kind != kind || !v.scalar) {
        char what[BN_H5_NAME_MAX + BN_H5_ATTR_NAME_MAX + 8];
        attr_label(what, sizeof what, object, name);
        status =
            bn_error(BN_BAD_DATA, "%s: %s: expected one %s, found %s%s", r->path, what,
                     attr_kind_name[kind], v.scalar ? "" : "a list of ", attr_kind_name[v.kind]);
    } else {
        memcpy(value, v.bytes, 8);
    }
    free(v.bytes);
    return status;
}

bn_status bn_h5_get_i64(bn_h5_reader *r, const char *object, const char *name, int64_t *value)
{
    return get_scalar(r, object, name, BN_H5_ATTR_I64, value);
}

bn_status bn_h5_get_u64(bn_h5_reader *r, const char *object, const char *name, uint64_t *value)
{
    return get_scalar(r, object, name, BN_H5_ATTR_U64, value);
}

bn_status bn_h5_get_f64(bn_h5_reader *r, const char *object, const char *name, double *value)
{
    return get_scalar(r, object, name, BN_H5_ATTR_F64, value);
}

bn_status bn_h5_get_i64s(bn_h5_reader *r, const char *object, const char *name, int max,
                         int64_t *values, int *count)
{
    bn_h5_attr v;
    BN_TRY(bn_h5_attr_get(r, object, name, &v));
    bn_status status = BN_OK;
    if (v.kind != BN_H5_ATTR_I64 || v.count > max) {
        char what[BN_H5_NAME_MAX + BN_H5_ATTR_NAME_MAX + 8];
        attr_label(what, sizeof what, object, name);
        status = bn_error(BN_BAD_DATA, "%s: %s: expected 1 to %d int64, found %lld %s", r->path,
                          what, max, (long long)v.count, attr_kind_name[v.kind]);
    } else {
        memcpy(values, v.bytes, (size_t)v.count * 8);
        *count = (int)v.count;
    }
    free(v.bytes);
    return status;
}

bn_status bn_h5_get_string(bn_h5_reader *r, const char *object, const char *name, char **value)
{
    bn_h5_attr v;
    *value = NULL;
    BN_TRY(bn_h5_attr_get(r, object, name, &v));
    if (v.kind != BN_H5_ATTR_STRING) {
        char what[BN_H5_NAME_MAX + BN_H5_ATTR_NAME_MAX + 8];
        attr_label(what, sizeof what, object, name);
        free(v.bytes);
        return bn_error(BN_BAD_DATA, "%s: %s: expected a string, found %s", r->path, what,
                        attr_kind_name[v.kind]);
    }
    *value = (char *)v.bytes;
    return BN_OK;
}

bn_status bn_h5_attrs_check(const bn_h5_reader *r, const char *object, hid_t id, uint32_t *crc)
{
    bn_status status = BN_OK;
    bn_strings names = {0};
    H5O_info_t info;
    if (H5Oget_info(id, &info) < 0)
        return bn_h5_error(BN_BAD_DATA, r->path, object, "cannot read the object");
    if (info.num_attrs > BN_H5_MAX_ATTRS)
        return bn_error(BN_BAD_DATA, "%s: %s: %llu attributes, expected at most %d", r->path,
                        object, (unsigned long long)info.num_attrs, BN_H5_MAX_ATTRS);
    for (hsize_t i = 0; i < info.num_attrs; i++) {
        char name[BN_H5_ATTR_NAME_MAX + 2];
        const ssize_t size = H5Aget_name_by_idx(id, ".", H5_INDEX_NAME, H5_ITER_INC, i, name,
                                                sizeof name, H5P_DEFAULT);
        if (size < 0 || size > BN_H5_ATTR_NAME_MAX ||
            !bn_h5_name_ok(name, BN_H5_ATTR_NAME_MAX, false)) {
            status = bn_error(BN_BAD_DATA, "%s: %s: attribute %llu has an unusable name", r->path,
                              object, (unsigned long long)i);
            goto out;
        }
        BN_TRY_OUT(bn_strings_add(&names, name));
    }
    bn_strings_sort(&names);
    uint32_t sum = 0;
    for (size_t i = 0; i < names.count; i++) {
        char what[BN_H5_NAME_MAX + BN_H5_ATTR_NAME_MAX + 8];
        bn_h5_attr v;
        attr_label(what, sizeof what, object, names.items[i]);
        hid_t attr = H5Aopen(id, names.items[i], H5P_DEFAULT);
        if (attr < 0) {
            status = bn_h5_error(BN_BAD_DATA, r->path, what, "cannot open the attribute");
            goto out;
        }
        status = attr_read(r, what, attr, &v);
        H5Aclose(attr);
        if (status != BN_OK)
            goto out;
        if (crc && strcmp(names.items[i], BN_H5_ROOT_CRC) != 0) {
            sum = bn_crc32c(sum, names.items[i], strlen(names.items[i]) + 1);
            sum = bn_crc32c(sum, v.bytes, bn_h5_attr_bytes(&v));
        }
        free(v.bytes);
    }
    if (crc)
        *crc = sum;
out:
    bn_strings_clear(&names);
    return status;
}
