#include "train/feed.h"

#include <stdlib.h>

#include "base/checked.h"

bn_status bn_feed_shapes(const bn_config *config, const bn_model *model, bn_tensor *input,
                         bn_tensor *labels)
{
    const int64_t batch = config->training.batch_size;
    const int64_t time = bn_model_is_classifier(model) ? 1 : config->training.seq_len;
    *input = bn_model_input(model, batch, time);
    *labels = bn_tensor_2d(BN_I32, batch, time);
    return bn_tensor_check(input, bn_model_is_classifier(model)
                                      ? "a batch (training.batch_size x model.input_size)"
                                      : "a batch (training.batch_size x training.seq_len)");
}

/* Host memory is 4 bytes an element, whatever the device calculates in. */
static bn_status alloc_batch(bn_feed *f)
{
    bn_backend *be = f->model->backend;
    const size_t stride = bn_align_up(bn_tensor_bytes(&f->input), BN_ALIGN);
    const size_t inputs = (size_t)bn_tensor_numel(&f->input) * sizeof(float);
    BN_TRY(be->alloc(be, stride + bn_align_up(bn_tensor_bytes(&f->labels), BN_ALIGN), &f->memory));
    f->input = bn_tensor_at(f->input, &f->memory, 0);
    f->labels = bn_tensor_at(f->labels, &f->memory, stride);
    f->host_input = malloc(inputs);
    f->host_labels = malloc(bn_tensor_bytes(&f->labels));
    if (!f->host_input || !f->host_labels)
        return bn_error_nomem("a batch", inputs + bn_tensor_bytes(&f->labels));
    return BN_OK;
}

bn_status bn_feed_init(const bn_config *config, const bn_train_data *data, const bn_model *model,
                       bn_feed *out)
{
    const uint64_t seed = (uint64_t)config->training.seed;
    *out = (bn_feed){.data = data, .model = model, .seed = seed};
    if (bn_model_is_classifier(model))
        out->table = (bn_row_batcher){.rows = data->train_rows, .state.seed = seed};
    else
        BN_TRY(bn_batcher_init(&out->text, data->train, config->training.seq_len, seed));
    BN_TRY(bn_feed_shapes(config, model, &out->input, &out->labels));
    return alloc_batch(out);
}

void bn_feed_clear(bn_feed *f)
{
    if (f->model)
        f->model->backend->release(f->model->backend, &f->memory);
    free(f->host_input);
    free(f->host_labels);
    *f = (bn_feed){0};
}

static int64_t batch_size(const bn_feed *f)
{
    return f->labels.shape[0];
}

void bn_feed_next(bn_feed *f)
{
    if (bn_model_is_classifier(f->model))
        bn_row_batcher_next(&f->table, batch_size(f), f->host_input, f->host_labels);
    else
        bn_batcher_next(&f->text, batch_size(f), f->host_input, f->host_labels);
}

bn_status bn_feed_upload(bn_feed *f)
{
    bn_backend *be = f->model->backend;
    BN_TRY(bn_model_put_input(f->model, &f->input, f->host_input));
    return be->upload(be, &f->labels, f->host_labels);
}

bn_batcher_state bn_feed_state(const bn_feed *f)
{
    return bn_model_is_classifier(f->model) ? f->table.state : f->text.state;
}

bn_status bn_feed_restore(bn_feed *f, const bn_batcher_state *state)
{
    if (!bn_model_is_classifier(f->model))
        return bn_batcher_restore(&f->text, state);
    if (state->index > (uint64_t)f->table.rows.count)
        return bn_error(BN_BAD_DATA,
                        "%s: the saved run was at example %llu of an epoch, there are %lld: it is "
                        "not the table the run was started with",
                        bn_table_name(f->table.rows.table), (unsigned long long)state->index,
                        (long long)f->table.rows.count);
    f->table.state = *state;
    return BN_OK;
}

bn_status bn_feed_rewind(bn_feed *f)
{
    return bn_feed_restore(f, &(bn_batcher_state){.seed = f->seed});
}

bn_status bn_feed_held_out_init(bn_feed *feed, const bn_config *config, bn_feed_held_out *out)
{
    const int64_t most = config->training.eval_batches;
    *out = (bn_feed_held_out){.feed = feed};
    if (!bn_model_is_classifier(feed->model))
        return bn_eval_batches_init(&out->text, feed->data->validation, feed->data->tokenizer,
                                    config->training.seq_len, batch_size(feed), most);
    const int64_t total = bn_ceil_div(feed->data->validation_rows.count, batch_size(feed));
    out->batches = most > 0 && most < total ? most : total;
    return BN_OK;
}

bool bn_feed_held_out_next(bn_feed_held_out *it, bn_eval_count *count)
{
    bn_feed *f = it->feed;
    if (!bn_model_is_classifier(f->model))
        return bn_eval_batches_next(&it->text, f->host_input, f->host_labels, count);
    *count = (bn_eval_count){0};
    if (it->next >= it->batches)
        return false;
    const int64_t batch = it->next++; /* rows are in random order: the first ones will do */
    count->labels = bn_rows_copy(f->data->validation_rows, batch * batch_size(f), batch_size(f),
                                 f->host_input, f->host_labels);
    return true;
}
