#include "train/train_data.h"

#include "base/rng.h"
#include "data/bpe.h"

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

static uint64_t hash_text(bn_span span)
{
    enum { CHUNK = 1 << 12 };
    int32_t tokens[CHUNK];
    uint64_t hash = 0;
    for (int64_t at = 0; at < span.count; at += CHUNK) {
        const int64_t n = span.count - at < CHUNK ? span.count - at : CHUNK;
        bn_corpus_copy(span.corpus, span.start + at, n, tokens);
        hash = bn_hash64(hash, bn_hash_bytes(tokens, (size_t)n * sizeof *tokens));
    }
    return hash;
}

/* Of the whole table: a cut one's rows follow from that and their number. */
static uint64_t hash_table(const bn_table *table, int64_t features)
{
    uint64_t hash = 0;
    for (int64_t i = 0; i < bn_table_rows(table); i++) {
        const float *x = bn_table_features(table, i);
        hash = bn_hash64(hash, bn_hash_bytes(x, (size_t)features * sizeof *x));
        hash = bn_hash64(hash, (uint64_t)bn_table_label(table, i));
    }
    return hash;
}

static bn_data_identity identity_of(const bn_config *config, const bn_train_data *d)
{
    if (!d->train_table)
        return (bn_data_identity){d->train.count, d->validation.count, hash_text(d->train),
                                  hash_text(d->validation)};
    const int64_t features = config->model.input_size;
    return (bn_data_identity){d->train_rows.count, d->validation_rows.count,
                              hash_table(d->train_table, features),
                              d->validation_table ? hash_table(d->validation_table, features) : 0};
}

bn_status bn_train_data_open(const bn_config *config, bn_train_data *out)
{
    bn_status status = BN_OK;
    *out = (bn_train_data){0};
    if (!config->data.train)
        return bn_error(BN_BAD_CONFIG, "data.train: expected a file or a pattern, found null; an "
                                       "imported model names none (--set data.train=FILE)");
    BN_TRY_OUT(bn_tokenizer_open(config->data.tokenizer, &out->tokenizer));
    BN_TRY_OUT(config->model.kind == BN_KIND_MLP ? open_tables(config, out)
                                                 : open_texts(config, out));
    out->identity = identity_of(config, out);
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
