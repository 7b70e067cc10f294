/* Prints the logits of a model for every row of a table, as bits: what the
 * framework says.
 * usage: c_header_logits MODEL TABLE */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "model/load.h"
#include "tools/evaluator.h"

static bn_status print_row(bn_evaluator *evaluator, const bn_table *table, int64_t row)
{
    const int32_t label = bn_table_label(table, row);
    const float *logits;
    double loss;
    BN_TRY(bn_evaluator_run(evaluator, bn_table_features(table, row), &label, &loss));
    BN_TRY(bn_evaluator_logits(evaluator, &logits));
    for (int64_t k = 0; k < evaluator->model->vocab; k++) {
        uint32_t bits;
        memcpy(&bits, &logits[k], sizeof bits);
        printf("%08" PRIx32 " ", bits);
    }
    printf("%d\n", (int)bn_classifier_correct(logits, &label, 1, evaluator->model->vocab));
    return BN_OK;
}

static bn_status run(const char *model, const char *path)
{
    bn_status status = BN_OK;
    bn_backend *backend = NULL;
    bn_loaded loaded = {0};
    bn_table *table = NULL;
    bn_evaluator evaluator = {0};
    BN_TRY(bn_cpu_backend_new(NULL, &backend));
    BN_TRY_OUT(bn_loaded_open(model, backend, true, &loaded));
    BN_TRY_OUT(bn_table_open(path, loaded.config.model.input_size, loaded.config.model.num_labels,
                             &table));
    BN_TRY_OUT(bn_evaluator_init(loaded.model, &(bn_windows){.batch = 1, .time = 1}, &evaluator));
    for (int64_t row = 0; row < bn_table_rows(table); row++)
        BN_TRY_OUT(print_row(&evaluator, table, row));
out:
    bn_evaluator_clear(&evaluator);
    bn_table_free(table);
    bn_loaded_clear(&loaded);
    bn_backend_free(backend);
    return status;
}

int main(int argc, char **argv)
{
    const bn_status status = argc == 3 ? run(argv[1], argv[2]) : BN_USAGE;
    if (status != BN_OK)
        fprintf(stderr, "c_header_logits: %s\n", bn_error_text());
    return (int)status;
}
