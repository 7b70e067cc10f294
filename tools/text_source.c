#include "tools/text_source.h"

bn_status bn_text_source_open(const bn_config *config, const char *data, bool held_out,
                              const bn_tokenizer *tokenizer, bn_text_source *out)
{
    bn_status status = BN_OK;
    bn_span train;
    *out = (bn_text_source){0};
    if (!data) {
        held_out = !config->data.validation;
        data = held_out ? config->data.train : config->data.validation;
    }
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

int64_t bn_window_length(const bn_config *config)
{
    const int64_t positions = config->model.max_position_embeddings;
    return config->training.seq_len < positions ? config->training.seq_len : positions;
}
