#include "tools/text_source.h"

/* `data`, or what the training run held out or learned from; *part becomes how
 * much of it. */
static const char *choose_data(const bn_config *config, const char *data, bn_part *part)
{
    if (*part == BN_PART_TRAINED) {
        if (config->data.validation)
            *part = BN_PART_ALL;
        return config->data.train;
    }
    if (data)
        return data;
    *part = config->data.validation ? BN_PART_ALL : BN_PART_HELD_OUT;
    return config->data.validation ? config->data.validation : config->data.train;
}

/* The config of an imported model names no data. */
static bn_status check_named(const char *data)
{
    return data ? BN_OK : bn_error(BN_NO_INPUT, "the model's config names no data: --data FILE");
}

bn_status bn_text_source_open(const bn_config *config, const char *data, bn_part part,
                              const bn_tokenizer *tokenizer, bn_text_source *out)
{
    bn_status status = BN_OK;
    bn_span train, tail;
    *out = (bn_text_source){0};
    data = choose_data(config, data, &part);
    BN_TRY_OUT(check_named(data));
    BN_TRY_OUT(bn_corpus_open(data, tokenizer, &out->corpus));
    out->span = bn_corpus_all(out->corpus);
    if (part != BN_PART_ALL) {
        BN_TRY_OUT(bn_corpus_split(out->corpus, config->data.validation_fraction, &train, &tail));
        out->span = part == BN_PART_TRAINED ? train : tail;
        if (out->span.count < 2)
            status = bn_error(BN_BAD_DATA, "%s: the %s has %lld tokens, needed are 2", data,
                              part == BN_PART_TRAINED ? "part to train on" : "held-out tail",
                              (long long)out->span.count);
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

bn_status bn_table_source_open(const bn_config *config, const char *data, bn_part part,
                               bn_table_source *out)
{
    bn_status status = BN_OK;
    bn_rows train, rest;
    *out = (bn_table_source){0};
    data = choose_data(config, data, &part);
    BN_TRY_OUT(check_named(data));
    BN_TRY_OUT(
        bn_table_open(data, config->model.input_size, config->model.num_labels, &out->table));
    out->rows = bn_table_all(out->table);
    if (part != BN_PART_ALL) {
        BN_TRY_OUT(bn_table_split(out->table, config->data.validation_fraction, &train, &rest));
        out->rows = part == BN_PART_TRAINED ? train : rest;
        if (out->rows.count < 1)
            status = bn_error(BN_BAD_DATA, "%s: nothing of it is %s", data,
                              part == BN_PART_TRAINED ? "to train on" : "held out");
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
