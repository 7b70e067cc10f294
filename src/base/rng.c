#include "base/rng.h"

#include <math.h>

uint64_t bn_rng_below(bn_rng *rng, uint64_t n)
{
    uint64_t floor = (uint64_t)-n % n; /* products below it would be biased */
    for (;;) {
        __extension__ typedef unsigned __int128 u128;
        u128 product = (u128)bn_rng_u64(rng) * n;
        if ((uint64_t)product >= floor)
            return (uint64_t)(product >> 64);
    }
}

double bn_rng_normal(bn_rng *rng)
{
    double u = 1.0 - bn_rng_uniform(rng); /* (0, 1] */
    double v = bn_rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925286766559 * v);
}
