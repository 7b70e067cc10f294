#include "tools/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "tools/text_source.h"

enum { SAMPLE_TOKENS = 4096, SAMPLE_SEED = 1 };

static bn_status sample_alloc(bn_sample *sample)
{
    const size_t n = (size_t)(sample->batches * sample->batch * sample->time);
    sample->tokens = malloc(n * sizeof *sample->tokens);
    sample->labels = malloc(n * sizeof *sample->labels);
    sample->counts = malloc((size_t)sample->batches * sizeof *sample->counts);
    if (!sample->tokens || !sample->labels || !sample->counts)
        return bn_error_nomem("the sample", n * sizeof *sample->tokens);
    return BN_OK;
}

static bn_status fill_from_text(const bn_text_source *text, const bn_tokenizer *tokenizer,
                                bn_sample *out)
{
    const int64_t each = out->batch * out->time;
    bn_eval_batches it;
    bn_eval_count count;
    BN_TRY(bn_eval_batches_init(&it, text->span, tokenizer, out->time, out->batch, out->batches));
    out->batches = it.batches;
    BN_TRY(sample_alloc(out));
    for (int64_t i = 0; i < out->batches; i++) {
        bn_eval_batches_next(&it, out->tokens + i * each, out->labels + i * each, &count);
        out->counts[i] = count.labels;
    }
    out->source = bn_strdup(bn_corpus_name(text->corpus));
    return out->source ? BN_OK : BN_FAIL;
}

static bn_status fill_randomly(int64_t vocab, bn_sample *out)
{
    const int64_t each = out->batch * out->time;
    bn_rng rng = bn_rng_of(SAMPLE_SEED, 0);
    BN_TRY(sample_alloc(out));
    for (int64_t i = 0; i < out->batches * each; i++) {
        out->tokens[i] = (int32_t)bn_rng_below(&rng, (uint64_t)vocab);
        out->labels[i] = (int32_t)bn_rng_below(&rng, (uint64_t)vocab);
    }
    for (int64_t i = 0; i < out->batches; i++)
        out->counts[i] = each;
    out->random = true;
    out->source = bn_format("random tokens (seed %d)", SAMPLE_SEED);
    return out->source ? BN_OK : BN_FAIL;
}

bn_status bn_sample_open(const bn_config *config, const char *data, const bn_tokenizer *tokenizer,
                         bn_sample *out)
{
    bn_text_source text;
    const int64_t time = bn_window_length(config), most = SAMPLE_TOKENS / time;
    *out = (bn_sample){.time = time, .batch = config->training.batch_size};
    if (out->batch > most)
        out->batch = most > 0 ? most : 1;
    out->batches = most > out->batch ? most / out->batch : 1;
    bn_status status = bn_text_source_open(config, data, false, tokenizer, &text);
    if (status == BN_OK) {
        status = fill_from_text(&text, tokenizer, out);
        bn_text_source_clear(&text);
    } else if (!data) {
        bn_error_clear();
        status = fill_randomly(bn_tokenizer_vocab_size(tokenizer), out);
    }
    if (status != BN_OK)
        bn_sample_clear(out);
    return status;
}

void bn_sample_clear(bn_sample *sample)
{
    free(sample->tokens);
    free(sample->labels);
    free(sample->counts);
    free(sample->source);
    *sample = (bn_sample){0};
}

bn_status bn_sample_score(const bn_sample *sample, const bn_model *model, bn_score *out)
{
    const int64_t each = sample->batch * sample->time;
    bn_evaluator evaluator;
    bn_status status = BN_OK;
    *out = (bn_score){.batches = sample->batches, .total = sample->batches};
    BN_TRY(bn_evaluator_init(model, sample->batch, sample->time, &evaluator));
    for (int64_t i = 0; i < sample->batches; i++) {
        double loss;
        BN_TRY_OUT(bn_evaluator_run(&evaluator, sample->tokens + i * each,
                                    sample->labels + i * each, &loss));
        out->nats += loss * (double)sample->counts[i];
        out->labels += sample->counts[i];
    }
    if (!isfinite(out->nats))
        status = bn_error(BN_FAIL, "the loss on %s is not finite", sample->source);
out:
    bn_evaluator_clear(&evaluator);
    return status;
}
