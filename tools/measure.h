/* measure.h - the loss of models on one text, or of MLPs on one table. */
#ifndef BN_TOOLS_MEASURE_H
#define BN_TOOLS_MEASURE_H

#include "model/load.h"
#include "tools/evaluator.h"
#include "tools/text_source.h"

/* Opened once for several models, or for one in several states. */
typedef struct bn_measure {
    const bn_config *config;       /* borrowed: window and batch */
    const bn_tokenizer *tokenizer; /* borrowed */
    const char *name;              /* of the data */
    bn_text_source text;
    bn_table_source table; /* of an MLP */
    int cache_bits;        /* as in bn_windows; may be set */
} bn_measure;

/* `data` and `part` as in bn_text_source_open(); `loaded` has the kind, config and
 * tokenizer of the models to come. *out need not be initialised; on failure it is
 * cleared. */
bn_status bn_measure_open(const bn_loaded *loaded, const char *data, bn_part part,
                          bn_measure *out) BN_MUST_CHECK;
void bn_measure_close(bn_measure *measure); /* {0} is fine */

/* As bn_score_span() or bn_score_rows(); batch 0: that of training. */
bn_status bn_measure_score(const bn_measure *measure, const bn_model *model, int64_t batch,
                           int64_t max_batches, bn_score *out) BN_MUST_CHECK;
/* Its mean alone, in batches of training's size. */
bn_status bn_measure_loss(const bn_measure *measure, const bn_model *model, int64_t max_batches,
                          double *loss) BN_MUST_CHECK;

#endif
