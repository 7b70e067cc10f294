#include "checkpoint/h5impl.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} type_table[BN_H5_TYPE_COUNT] = {
    [BN_H5_F32] = {"float32", 4}, [BN_H5_F64] = {"float64", 8}, [BN_H5_F16] = {"float16", 2},
    [BN_H5_U8] = {"uint8", 1},    [BN_H5_U16] = {"uint16", 2},  [BN_H5_I64] = {"int64", 8},
    [BN_H5_U64] = {"uint64", 8},
};

const char *bn_h5_type_name(bn_h5_type type)
{
    return type_table[type].name;
}

size_t bn_h5_type_size(bn_h5_type type)
{
    return type_table[type].size;
}

void bn_h5_start(void)
{
    /* Files are always closed here; what the library does at exit is of use
     * only to those that are not, and crashes after a refused write. */
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
}

/* Keeps the innermost description: the walk starts there. */
static herr_t keep_reason(unsigned n, const H5E_error2_t *error, void *arg)
{
    char *reason = arg;
    if (n != 0 || !error->desc)
        return 0;
    /* System errors come as "... errno = 28, error message = 'No space left on
     * device', ..." with a time in the middle. */
    const char *text = strstr(error->desc, "error message = '");
    if (text) {
        text += strlen("error message = '");
        snprintf(reason, 160, "%.*s", (int)strcspn(text, "'\n"), text);
    } else {
        snprintf(reason, 160, "%.*s", (int)strcspn(error->desc, "\n"), error->desc);
    }
    return 0;
}

bn_status bn_h5_error(bn_status status, const char *path, const char *object, const char *doing)
{
    char reason[160] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_reason, reason);
    if (object)
        return bn_error(status, "%s: %s: %s (%s)", path, object, doing, reason);
    return bn_error(status, "%s: %s (%s)", path, doing, reason);
}

hid_t bn_h5_type_new(bn_h5_type type)
{
    switch (type) {
    case BN_H5_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case BN_H5_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case BN_H5_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case BN_H5_U16:
        return H5Tcopy(H5T_STD_U16LE);
    case BN_H5_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case BN_H5_U64:
        return H5Tcopy(H5T_STD_U64LE);
    case BN_H5_F16: {
        /* sign at bit 15, exponent 5 bits from 10, mantissa 10 bits from 0 */
        hid_t half = H5Tcopy(H5T_IEEE_F32LE);
        if (half >= 0 && (H5Tset_fields(half, 15, 10, 5, 0, 10) < 0 || H5Tset_size(half, 2) < 0 ||
                          H5Tset_ebias(half, 15) < 0)) {
            H5Tclose(half);
            half = H5I_INVALID_HID;
        }
        return half;
    }
    default:
        return H5I_INVALID_HID;
    }
}

hid_t bn_h5_string_type_new(size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && (H5Tset_size(type, size) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0 ||
                      H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        type = H5I_INVALID_HID;
    }
    return type;
}

hid_t bn_h5_access_new(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && (H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_LATEST) < 0 ||
                        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) < 0)) {
        H5Pclose(access);
        access = H5I_INVALID_HID;
    }
    return access;
}

bool bn_h5_name_ok(const char *name, size_t max, bool group_allowed)
{
    const size_t size = strlen(name);
    if (size == 0 || size > max)
        return false;
    int slashes = 0;
    for (size_t i = 0; i < size; i++) {
        if (name[i] <= ' ' || name[i] > '~')
            return false;
        slashes += name[i] == '/';
    }
    const char *slash = strchr(name, '/');
    const char *leaf = slash ? slash + 1 : name;
    if (slashes > (group_allowed ? 1 : 0) || slash == name || !*leaf)
        return false;
    if (strcmp(leaf, ".") == 0 || strcmp(leaf, "..") == 0)
        return false;
    return name[0] != '.' || slash == NULL; /* a group's name starts with no dot */
}
