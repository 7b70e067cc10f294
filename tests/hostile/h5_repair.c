#include "h5_repair.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/crc32c.h"

#define ROOT_CRC "attributes_crc32c"

static bool put_crc(hid_t object, const char *name, uint64_t crc)
{
    if (H5Aexists(object, name) > 0)
        H5Adelete(object, name); /* it may have another type by now */
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(object, name, H5T_STD_U64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool done = a >= 0 && H5Awrite(a, H5T_NATIVE_UINT64, &crc) >= 0;
    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    return done;
}

static bool is_number(hid_t type)
{
    const H5T_class_t class = H5Tget_class(type);
    return class == H5T_INTEGER || class == H5T_FLOAT;
}

bool h5_repair_array(hid_t file, const char *name, size_t most)
{
    bool done = false;
    hid_t d = H5Dopen2(file, name, H5P_DEFAULT);
    if (d < 0)
        return false;
    hid_t type = H5Dget_type(d), space = H5Dget_space(d);
    const hssize_t n = H5Sget_simple_extent_npoints(space);
    const size_t size = H5Tget_size(type);
    void *data =
        is_number(type) && n > 0 && (size_t)n <= most / size ? malloc((size_t)n * size) : NULL;
    if (data && H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0)
        done = put_crc(d, "crc32c", bn_crc32c(0, data, (size_t)n * size));
    free(data);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(d);
    return done;
}

/* What the reader does not take is left out: it refuses the file anyway. */
static herr_t add_to_crc(hid_t root, const char *name, const H5A_info_t *info, void *arg)
{
    uint32_t *crc = arg;
    (void)info;
    hid_t a = H5Aopen(root, name, H5P_DEFAULT), type = H5Aget_type(a);
    const size_t size = (size_t)H5Aget_storage_size(a);
    const bool text = H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0;
    char *bytes = calloc(1, size + 1);
    if (bytes && strcmp(name, ROOT_CRC) != 0 && (text || is_number(type)) &&
        H5Aread(a, type, bytes) >= 0) {
        *crc = bn_crc32c(*crc, name, strlen(name) + 1);
        *crc = bn_crc32c(*crc, bytes, text ? strlen(bytes) : size);
    }
    free(bytes);
    H5Tclose(type);
    H5Aclose(a);
    return 0;
}

bool h5_repair_root(hid_t file)
{
    uint32_t crc = 0;
    hsize_t at = 0;
    return H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, &at, add_to_crc, &crc) >= 0 &&
           put_crc(file, ROOT_CRC, crc);
}
