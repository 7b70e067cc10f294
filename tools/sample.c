#include "tools/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/rng.h"
#include "tools/text_source.h"

enum { SAMPLE_TOKENS = 4096, SAMPLE_ROWS = 64, SAMPLE_SEED = 1 };

static int64_t batch_labels(const bn_sample *sample)
{
    return sample->batch * sample->time;
}

/* Tokens and features both take 4 bytes. */
static bn_status sample_alloc(bn_sample *sample)
{
    const size_t n = (size_t)(sample->batches * batch_labels(sample));
    const size_t bytes = n * (size_t)sample->width * sizeof(int32_t);
    sample->tokens = malloc(bytes);
    sample->labels = malloc(n * sizeof *sample->labels);
    sample->counts = malloc((size_t)sample->batches * sizeof *sample->counts);
    if (!sample->tokens || !sample->labels || !sample->counts)
        return bn_error_nomem("the sample", bytes);
    return BN_OK;
}

const void *bn_sample_input(const bn_sample *sample, int64_t i)
{
    return (const int32_t *)sample->tokens + i * batch_labels(sample) * sample->width;
}

static bn_status fill_from_text(const bn_text_source *text, const bn_tokenizer *tokenizer,
                                bn_sample *out)
{
    const int64_t each = batch_labels(out);
    bn_eval_batches it;
    bn_eval_count count;
    BN_TRY(bn_eval_batches_init(&it, text->span, tokenizer, out->time, out->batch, out->batches));
    out->batches = it.batches;
    BN_TRY(sample_alloc(out));
    for (int64_t i = 0; i < out->batches; i++) {
        bn_eval_batches_next(&it, (int32_t *)out->tokens + i * each, out->labels + i * each,
                             &count);
        out->counts[i] = count.labels;
    }
    out->source = bn_strdup(bn_corpus_name(text->corpus));
    return out->source ? BN_OK : BN_FAIL;
}

static bn_status fill_from_table(const bn_table_source *source, bn_sample *out)
{
    const int64_t rows = source->rows.count, each = batch_labels(out);
    const int64_t batches = (rows + each - 1) / each;
    out->batches = batches < out->batches ? batches : out->batches;
    BN_TRY(sample_alloc(out));
    for (int64_t i = 0; i < out->batches; i++)
        out->counts[i] =
            bn_rows_copy(source->rows, i * each, each, (float *)out->tokens + i * each * out->width,
                         out->labels + i * each);
    out->source = bn_strdup(bn_table_name(source->table));
    return out->source ? BN_OK : BN_FAIL;
}

/* Tokens below `vocab`, or features around 0. */
static bn_status fill_randomly(const bn_config *config, int64_t vocab, bn_sample *out)
{
    const bool classifier = config->model.kind == BN_KIND_MLP;
    const int64_t classes = classifier ? config->model.num_labels : vocab;
    const int64_t n = out->batches * batch_labels(out);
    bn_rng rng = bn_rng_of(SAMPLE_SEED, 0);
    BN_TRY(sample_alloc(out));
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < out->width; k++)
            if (classifier)
                ((float *)out->tokens)[i * out->width + k] = (float)bn_rng_normal(&rng);
            else
                ((int32_t *)out->tokens)[i] = (int32_t)bn_rng_below(&rng, (uint64_t)vocab);
        out->labels[i] = (int32_t)bn_rng_below(&rng, (uint64_t)classes);
    }
    for (int64_t i = 0; i < out->batches; i++)
        out->counts[i] = batch_labels(out);
    out->random = true;
    out->source = bn_format("random %s (seed %d)", classifier ? "examples" : "tokens", SAMPLE_SEED);
    return out->source ? BN_OK : BN_FAIL;
}

static bn_status fill_from_data(const bn_config *config, const char *data, bn_part part,
                                const bn_tokenizer *tokenizer, bn_sample *out)
{
    bn_text_source text = {0};
    bn_table_source table = {0};
    bn_status status = BN_OK;
    if (config->model.kind == BN_KIND_MLP) {
        BN_TRY_OUT(bn_table_source_open(config, data, part, &table));
        BN_TRY_OUT(fill_from_table(&table, out));
    } else {
        BN_TRY_OUT(bn_text_source_open(config, data, part, tokenizer, &text));
        BN_TRY_OUT(fill_from_text(&text, tokenizer, out));
    }
out:
    bn_table_source_clear(&table);
    bn_text_source_clear(&text);
    return status;
}

/* Training kept nothing back to compare on. */
static bool held_nothing_out(const bn_config *config)
{
    return !config->data.validation && !(config->data.validation_fraction > 0);
}

/* Of windows as in training, about so many tokens. */
static void set_shape(const bn_config *config, int64_t tokens, bn_sample *out)
{
    if (config->model.kind == BN_KIND_MLP) {
        *out = (bn_sample){.batch = 1, .time = SAMPLE_ROWS, .width = config->model.input_size};
        out->batches = bn_ceil_div(tokens, SAMPLE_ROWS);
    } else {
        const int64_t time = bn_window_length(config), most = tokens / time;
        *out = (bn_sample){.time = time, .batch = config->training.batch_size, .width = 1};
        if (out->batch > most)
            out->batch = most > 0 ? most : 1;
        out->batches = most > out->batch ? most / out->batch : 1;
    }
}

bn_status bn_sample_open(const bn_config *config, const char *data, const bn_tokenizer *tokenizer,
                         bn_sample *out)
{
    const int64_t vocab = bn_tokenizer_vocab_size(tokenizer);
    bn_status status = BN_NO_INPUT;
    set_shape(config, SAMPLE_TOKENS, out);
    if (data || !held_nothing_out(config))
        status = fill_from_data(config, data, BN_PART_ALL, tokenizer, out);
    if (status == BN_NO_INPUT && !data) {
        bn_error_clear();
        status = fill_randomly(config, vocab, out);
    }
    if (status != BN_OK)
        bn_sample_clear(out);
    return status;
}

bn_status bn_sample_open_trained(const bn_config *config, const char *data, int64_t tokens,
                                 const bn_tokenizer *tokenizer, bn_sample *out)
{
    set_shape(config, tokens, out);
    bn_status status =
        fill_from_data(config, data, data ? BN_PART_ALL : BN_PART_TRAINED, tokenizer, out);
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
    bn_evaluator evaluator;
    bn_status status = BN_OK;
    *out = (bn_score){.batches = sample->batches, .total = sample->batches};
    BN_TRY(bn_evaluator_init(model, &(bn_windows){.batch = sample->batch, .time = sample->time},
                             &evaluator));
    for (int64_t i = 0; i < sample->batches; i++)
        BN_TRY_OUT(bn_score_add(&evaluator, bn_sample_input(sample, i),
                                sample->labels + i * batch_labels(sample), sample->counts[i], out));
    if (!isfinite(out->nats))
        status = bn_error(BN_FAIL, "the loss on %s is not finite", sample->source);
out:
    bn_evaluator_clear(&evaluator);
    return status;
}
