#include "tensor/scheme.h"

#include <math.h>

/* per_mean of 2 to 8 bits: the step with the least mean square error for a normal
 * distribution (Max, IRE Trans. Inf. Theory 6, 1960), over its mean |w|. */
const bn_grid_info bn_grid_table[BN_GRID_COUNT] = {
    [BN_GRID_TERNARY] = {"ternary", 1, false, 2, 1.0},
    [BN_GRID_BINARY] = {"binary", 1, true, 1, 1.0},
    [BN_GRID_INT2] = {"2-bit", 3, true, 2, 0.624},
    [BN_GRID_INT3] = {"3-bit", 3, false, 3, 0.8156},
    [BN_GRID_INT4] = {"4-bit", 7, false, 4, 0.4429},
    [BN_GRID_INT8] = {"8-bit", 127, false, 8, 0.0387},
};

/* Outer border of the outermost code's interval. */
static double edge(bn_grid grid)
{
    return bn_grid_table[grid].max + bn_grid_half_step(grid);
}

double bn_estimator_weight_limit(bn_estimator estimator, bn_grid grid)
{
    switch (estimator) {
    case BN_ESTIMATOR_IDENTITY:
        break;
    case BN_ESTIMATOR_CLIPPED:
        return bn_grid_table[grid].max;
    case BN_ESTIMATOR_TRUST:
    case BN_ESTIMATOR_EWGS:
        return edge(grid);
    case BN_ESTIMATOR_LSQ: /* few codes: the stretched grid of arXiv 2502.02631 */
        return bn_grid_table[grid].max == 1 || grid == BN_GRID_INT2 ? edge(grid)
                                                                    : bn_grid_table[grid].max;
    }
    return (double)INFINITY;
}

double bn_estimator_scale_limit(bn_estimator estimator, bn_grid grid)
{
    if (grid == BN_GRID_BINARY)
        return 0; /* a sign does not change with the scale */
    const double limit = bn_estimator_weight_limit(estimator, grid);
    return isinf(limit) ? edge(grid) : limit;
}
