/* A table of numbers with labels, as a classifier reads it. */
#include <math.h>

#include "data/table.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { FEATURES = 2, CLASSES = 3 };
    bn_table *table;
    if (!fuzz_status(bn_table_open(fuzz_file("table.csv", data, size), FEATURES, CLASSES, &table),
                     BN_OK))
        return 0;
    if (bn_table_rows(table) < 1)
        fuzz_broken("a table without rows was accepted");
    for (int64_t row = 0; row < bn_table_rows(table); row++) {
        const float *x = bn_table_features(table, row);
        const int32_t label = bn_table_label(table, row);
        if (!isfinite(x[0]) || !isfinite(x[1]) || label < 0 || label >= CLASSES)
            fuzz_broken("a row out of range was accepted");
    }
    bn_table_free(table);
    return 0;
}

void fuzz_seeds(void)
{
    fuzz_seed_text("commas", "x,y,class\n1,2,0\n-3.5,4e1,2\n");
    fuzz_seed_text("blanks", "# made by hand\n\n1 2 0\n  .5\t-4 1\n");
    fuzz_seed_text("semicolons", "1;2;0\r\n3;1e-3;1\r\n");
}
