#include "quant/estimator.h"

#include <math.h>

double bn_lsq_factor(bn_grid grid, int64_t n)
{
    return 1 / sqrt((double)n * bn_grid_table[grid].max);
}
