#include "tools/measure.h"

bn_status bn_measure_open(const bn_loaded *loaded, const char *data, bn_part part, bn_measure *out)
{
    *out = (bn_measure){.config = &loaded->config, .tokenizer = loaded->tokenizer};
    if (bn_model_is_classifier(loaded->model)) {
        BN_TRY(bn_table_source_open(&loaded->config, data, part, &out->table));
        out->name = bn_table_name(out->table.table);
    } else {
        BN_TRY(bn_text_source_open(&loaded->config, data, part, loaded->tokenizer, &out->text));
        out->name = bn_corpus_name(out->text.corpus);
    }
    return BN_OK;
}

void bn_measure_close(bn_measure *m)
{
    bn_text_source_clear(&m->text);
    bn_table_source_clear(&m->table);
    *m = (bn_measure){0};
}

bn_status bn_measure_score(const bn_measure *m, const bn_model *model, int64_t batch,
                           int64_t max_batches, bn_score *out)
{
    if (batch == 0)
        batch = m->config->training.batch_size;
    const bn_windows windows = {.batch = batch,
                                .time = bn_window_length(m->config),
                                .max_batches = max_batches,
                                .cache_bits = m->cache_bits};
    return m->table.table ? bn_score_rows(model, m->table.rows, batch, max_batches, out)
                          : bn_score_span(model, m->text.span, m->tokenizer, &windows, out);
}

bn_status bn_measure_loss(const bn_measure *m, const bn_model *model, int64_t max_batches,
                          double *loss)
{
    bn_score score;
    BN_TRY(bn_measure_score(m, model, 0, max_batches, &score));
    *loss = bn_score_loss(&score);
    return BN_OK;
}
