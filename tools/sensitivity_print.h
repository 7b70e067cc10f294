/* sensitivity_print.h - bitnet-inspect --sensitivity. */
#ifndef BN_TOOLS_SENSITIVITY_PRINT_H
#define BN_TOOLS_SENSITIVITY_PRINT_H

#include "tools/sensitivity.h"

/* Measures, with a `budget` above 0 chooses, and prints a table or an object. */
bn_status bn_sensitivity_run(bn_loaded *loaded, const bn_sensitivity_data *data, double budget,
                             bool json) BN_MUST_CHECK;

#endif
