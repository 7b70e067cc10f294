#include "train/train_data.h"

/* Finds a text that is too short before anything is made. */
static bn_status check_lengths(const bn_config *config, const bn_train_data *data)
{
    const int64_t length = config->training.seq_len;
    bn_batcher batcher;
    bn_eval_batches batches;
    BN_TRY(bn_batcher_init(&batcher, data->train, length, (uint64_t)config->training.seed));
    if (data->validation.count == 0)
        return BN_OK;
    return bn_eval_batches_init(&batches, data->validation, data->tokenizer, length,
                                config->training.batch_size, config->training.eval_batches);
}

static bn_status open_texts(const bn_config *config, bn_train_data *out)
{
    BN_TRY(bn_corpus_open(config->data.train, out->tokenizer, &out->train_corpus));
    if (config->data.validation) {
        BN_TRY(bn_corpus_open(config->data.validation, out->tokenizer, &out->validation_corpus));
        out->train = bn_corpus_all(out->train_corpus);
        out->validation = bn_corpus_all(out->validation_corpus);
    } else {
        BN_TRY(bn_corpus_split(out->train_corpus, config->data.validation_fraction, &out->train,
                               &out->validation));
    }
    return check_lengths(config, out);
}

static bn_status open_tables(const bn_config *config, bn_train_data *out)
{
    const int64_t features = config->model.input_size, classes = config->model.num_labels;
    BN_TRY(bn_table_open(config->data.train, features, classes, &out->train_table));
    if (!config->data.validation)
        return bn_table_split(out->train_table, config->data.validation_fraction, &out->train_rows,
                              &out->validation_rows);
    BN_TRY(bn_table_open(config->data.validation, features, classes, &out->validation_table));
    out->train_rows = bn_table_all(out->train_table);
    out->validation_rows = bn_table_all(out->validation_table);
    return BN_OK;
}

bn_status bn_train_data_open(const bn_config *config, bn_train_data *out)
{
    bn_status status = BN_OK;
    *out = (bn_train_data){0};
    BN_TRY_OUT(bn_tokenizer_open(config->data.tokenizer, &out->tokenizer));
    BN_TRY_OUT(config->model.kind == BN_KIND_MLP ? open_tables(config, out)
                                                 : open_texts(config, out));
out:
    if (status != BN_OK)
        bn_train_data_clear(out);
    return status;
}

void bn_train_data_clear(bn_train_data *data)
{
    bn_table_free(data->train_table);
    bn_table_free(data->validation_table);
    bn_corpus_free(data->train_corpus);
    bn_corpus_free(data->validation_corpus);
    bn_tokenizer_free(data->tokenizer);
    *data = (bn_train_data){0};
}
