#include "tools/text_source.h"

/* `data`, or what the training run held out. */
static const char *choose_data(const bn_config *config, const char *data, bool *held_out)
{
    if (data)
        return data;
    *held_out = !config->data.validation;
    return *held_out ? config->data.train : config->data.validation;
}

/* The config of an imported model names no data. */
static bn_status check_named(const char *data)
{
    return data ? BN_OK : bn_error(BN_NO_INPUT, "the model's config names no data: --data FILE");
}

bn_status bn_text_source_open(const bn_config *config, const char *data, bool held_out,
                              const bn_tokenizer *tokenizer, bn_text_source *out)
{
    bn_status status = BN_OK;
    bn_span train;
    *out = (bn_text_source){0};
    data = choose_data(config, data, &held_out);
    BN_TRY_OUT(check_named(data));
    BN_TRY_OUT(bn_corpus_open(data, tokenizer, &out->corpus));
    out->span = bn_corpus_all(out->corpus);
    if (held_out) {
        BN_TRY_OUT(
            bn_corpus_split(out->corpus, config->data.validation_fraction, &train, &out->span));
        if (out->span.count < 2)
            status = bn_error(BN_BAD_DATA, "%s: the held-out tail has %lld tokens, needed are 2",
                              data, (long long)out->span.count);
    }
out:
    if (status != BN_OK)
        bn_text_source_clear(out);
    return status;
}

void bn_text_source_clear(bn_text_source *source)
{
    bn_corpus_free(source->corpus);
    *source = (bn_text_source){0};
}

bn_status bn_table_source_open(const bn_config *config, const char *data, bool held_out,
                               bn_table_source *out)
{
    bn_status status = BN_OK;
    bn_rows train;
    *out = (bn_table_source){0};
    data = choose_data(config, data, &held_out);
    BN_TRY_OUT(check_named(data));
    BN_TRY_OUT(
        bn_table_open(data, config->model.input_size, config->model.num_labels, &out->table));
    out->rows = bn_table_all(out->table);
    if (held_out) {
        BN_TRY_OUT(
            bn_table_split(out->table, config->data.validation_fraction, &train, &out->rows));
        if (out->rows.count < 1)
            status = bn_error(BN_BAD_DATA, "%s: nothing of it is held out", data);
    }
out:
    if (status != BN_OK)
        bn_table_source_clear(out);
    return status;
}

void bn_table_source_clear(bn_table_source *source)
{
    bn_table_free(source->table);
    *source = (bn_table_source){0};
}

int64_t bn_window_length(const bn_config *config)
{
    const int64_t positions = config->model.max_position_embeddings;
    return config->training.seq_len < positions ? config->training.seq_len : positions;
}
