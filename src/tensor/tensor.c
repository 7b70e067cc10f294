#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"

static const struct {
    const char *name;
    size_t size;
} dtype_table[BN_DTYPE_COUNT] = {
    [BN_F32] = {"float32", 4}, [BN_F64] = {"float64", 8}, [BN_I32] = {"int32", 4},
    [BN_I8] = {"int8", 1},     [BN_U8] = {"uint8", 1},    [BN_T2] = {"ternary2", 0},
    [BN_T2_LANES] = {"ternary2 in lanes", 0},
};

const char *bn_dtype_name(bn_dtype dtype)
{
    return dtype_table[dtype].name;
}

size_t bn_dtype_size(bn_dtype dtype)
{
    return dtype_table[dtype].size;
}

bn_tensor bn_tensor_of(bn_dtype dtype, int ndim, const int64_t *shape)
{
    bn_tensor t = {.dtype = dtype, .ndim = ndim};
    for (int i = 0; i < ndim && i < BN_MAX_DIMS; i++)
        t.shape[i] = shape[i];
    return t;
}

bn_tensor bn_tensor_1d(bn_dtype dtype, int64_t n)
{
    return bn_tensor_of(dtype, 1, (const int64_t[]){n});
}

bn_tensor bn_tensor_2d(bn_dtype dtype, int64_t rows, int64_t cols)
{
    return bn_tensor_of(dtype, 2, (const int64_t[]){rows, cols});
}

bn_tensor bn_tensor_3d(bn_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    return bn_tensor_of(dtype, 3, (const int64_t[]){d0, d1, d2});
}

bn_status bn_tensor_check(const bn_tensor *t, const char *what)
{
    if (t->ndim < 1 || t->ndim > BN_MAX_DIMS)
        return bn_error(BN_BAD_DATA, "%s: %d dimensions, expected 1 to %d", what, t->ndim,
                        BN_MAX_DIMS);
    int64_t n = 8; /* the widest element: numel * 8 must fit */
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] < 1)
            return bn_error(BN_BAD_DATA, "%s: dimension %d is %lld, expected >= 1", what, i,
                            (long long)t->shape[i]);
        if (!bn_mul_i64(n, t->shape[i], &n))
            return bn_error(BN_BAD_DATA, "%s: the product of its dimensions overflows", what);
    }
    return BN_OK;
}

int64_t bn_tensor_numel(const bn_tensor *t)
{
    int64_t n = t->ndim > 0;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

int64_t bn_tensor_cols(const bn_tensor *t)
{
    return t->ndim > 0 ? t->shape[t->ndim - 1] : 0;
}

int64_t bn_tensor_rows(const bn_tensor *t)
{
    int64_t n = t->ndim > 0;
    for (int i = 0; i < t->ndim - 1; i++)
        n *= t->shape[i];
    return n;
}

size_t bn_tensor_bytes(const bn_tensor *t)
{
    if (bn_dtype_size(t->dtype) == 0)
        return (size_t)bn_tensor_rows(t) * (size_t)bn_ceil_div(bn_tensor_cols(t), 4);
    return (size_t)bn_tensor_numel(t) * bn_dtype_size(t->dtype);
}

bool bn_tensor_same_shape(const bn_tensor *a, const bn_tensor *b)
{
    if (a->ndim != b->ndim)
        return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return true;
}

bn_tensor bn_tensor_at(bn_tensor t, const bn_buffer *buffer, size_t offset)
{
    t.buffer = buffer;
    t.offset = offset;
    return t;
}

char *bn_tensor_shape_text(const bn_tensor *t, char *text, size_t size)
{
    size_t used = 0;
    if (size > 0)
        text[0] = '\0';
    for (int i = 0; i <= t->ndim; i++) {
        const char *mark = i == 0 ? "[" : ", ";
        int n = i < t->ndim
                    ? snprintf(text + used, size - used, "%s%lld", mark, (long long)t->shape[i])
                    : snprintf(text + used, size - used, "%s]", t->ndim > 0 ? "" : "[");
        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
    }
    return text;
}
