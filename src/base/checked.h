/* checked.h - the one place for size arithmetic that may overflow. */
#ifndef BN_BASE_CHECKED_H
#define BN_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b resp. a + b; false (and *out undefined) on overflow. */
static inline bool bn_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool bn_add_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool bn_mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool bn_add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* ceil(a / b) for a >= 0, b > 0. */
static inline int64_t bn_ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* a rounded up to a multiple of `align` (a power of two); the caller has
 * checked that a + align does not overflow. */
static inline size_t bn_align_up(size_t a, size_t align)
{
    return (a + align - 1) & ~(align - 1);
}

#endif
