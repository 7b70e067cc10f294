#include "train/selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/cpu.h"
#include "quant/pack.h"
#include "train/graphs.h"

/* ---- packing ------------------------------------------------------------ */

static bn_status check_packing(void)
{
    enum { BYTES = BN_B3_MAX_BYTE + 1, COLS = BYTES * BN_B3_PER_BYTE };
    uint8_t base3[BYTES], back[BYTES], t2[COLS / BN_T2_PER_BYTE + 1], again[sizeof t2];
    int8_t codes[COLS];
    for (int i = 0; i < BYTES; i++)
        base3[i] = (uint8_t)i;
    bn_b3_to_t2(base3, 1, COLS, t2);
    bn_t2_unpack(t2, 0, 1, COLS, codes);
    bn_t2_pack(codes, 1, COLS, again);
    bn_b3_from_t2(again, 1, COLS, back);
    for (int i = 0; i < BYTES; i++) {
        int value = 0;
        for (int k = BN_B3_PER_BYTE - 1; k >= 0; k--)
            value = 3 * value + codes[i * BN_B3_PER_BYTE + k] + 1;
        if (back[i] != i || value != i)
            return bn_error(BN_MISMATCH, "self-test: base-3 byte %d reads as %d, packs to %d", i,
                            value, back[i]);
    }
    return BN_OK;
}

/* ---- quantizers and integer product ------------------------------------- */

enum { ROWS = 7, IN = 200, OUT = 33, GROUP = 64, GROUPS = (IN + GROUP - 1) / GROUP };

typedef struct product {
    int8_t x[ROWS * IN];
    uint8_t w[OUT * ((IN + 3) / 4)];
    float step[ROWS], scale[OUT * GROUPS], y[ROWS * OUT];
} product;

static bn_status record_product(bn_tape *tape, const bn_tensor *x, const bn_tensor *w,
                                bn_value out[5])
{
    bn_quantized qx = bn_act_quant(tape, bn_tape_input(tape, x), &(bn_act_params){8, BN_PER_ROW});
    const bn_weight_params params = {.group_size = GROUP};
    bn_quantized qw = bn_weight_quant(tape, bn_tape_input(tape, w), BN_NO_VALUE, &params);
    out[0] = qx.codes;
    out[1] = qx.scale;
    out[2] = qw.codes;
    out[3] = qw.scale;
    out[4] = bn_bitlinear(tape, qx, qw, &params, BN_NO_VALUE);
    bn_tape_retain_all(tape);
    return bn_tape_plan(tape, BN_NO_VALUE);
}

static bn_status get_product(bn_backend *be, const bn_tape *tape, const bn_value v[5], product *out)
{
    BN_TRY(be->download(be, bn_tape_tensor(tape, v[0]), out->x));
    BN_TRY(bn_backend_get_f32(be, bn_tape_tensor(tape, v[1]), out->step, ROWS));
    BN_TRY(be->download(be, bn_tape_tensor(tape, v[2]), out->w));
    BN_TRY(bn_backend_get_f32(be, bn_tape_tensor(tape, v[3]), out->scale, OUT * GROUPS));
    return bn_backend_get_f32(be, bn_tape_tensor(tape, v[4]), out->y, ROWS * OUT);
}

static bn_status run_product(bn_backend *be, product *out)
{
    bn_status status = BN_OK;
    float data[OUT * IN];
    bn_value values[5];
    bn_tape *tape = NULL;
    bn_buffer inputs = {0}, arena = {0};
    bn_rng rng = bn_rng_of(1, 1);
    bn_tensor x = bn_tensor_2d(be->real, ROWS, IN), w = bn_tensor_2d(be->real, OUT, IN);
    const size_t w_at = bn_tensor_bytes(&x) + BN_ALIGN - bn_tensor_bytes(&x) % BN_ALIGN;
    BN_TRY_OUT(be->alloc(be, w_at + bn_tensor_bytes(&w), &inputs));
    x = bn_tensor_at(x, &inputs, 0);
    w = bn_tensor_at(w, &inputs, w_at);
    for (int i = 0; i < OUT * IN; i++)
        data[i] = (float)bn_rng_normal(&rng);
    BN_TRY_OUT(bn_backend_put_f32(be, &x, data, ROWS * IN));
    BN_TRY_OUT(bn_backend_put_f32(be, &w, data, OUT * IN));
    BN_TRY_OUT(bn_tape_new(be, &tape));
    BN_TRY_OUT(record_product(tape, &x, &w, values));
    BN_TRY_OUT(be->alloc(be, bn_tape_memory_of(tape).arena, &arena));
    BN_TRY_OUT(bn_tape_bind(tape, &arena));
    BN_TRY_OUT(bn_tape_forward(tape, NULL));
    BN_TRY_OUT(get_product(be, tape, values, out));
out:
    bn_tape_free(tape);
    be->release(be, &arena);
    be->release(be, &inputs);
    return status;
}

static bn_status check_product(bn_backend *backend, bn_backend *reference)
{
    product a, b;
    double worst = 0.0;
    BN_TRY(run_product(backend, &a));
    BN_TRY(run_product(reference, &b));
    if (memcmp(a.x, b.x, sizeof a.x) != 0 || memcmp(a.step, b.step, sizeof a.step) != 0)
        return bn_error(BN_MISMATCH, "self-test: activation codes of %s differ from the reference",
                        backend->name);
    if (memcmp(a.w, b.w, sizeof a.w) != 0 || memcmp(a.scale, b.scale, sizeof a.scale) != 0)
        return bn_error(BN_MISMATCH, "self-test: weight codes of %s differ from the reference",
                        backend->name);
    for (int i = 0; i < ROWS * OUT; i++)
        worst =
            fmax(worst, fabs((double)a.y[i] - (double)b.y[i]) / fmax(1.0, fabs((double)b.y[i])));
    if (!(worst <= 1e-6))
        return bn_error(BN_MISMATCH, "self-test: the ternary product of %s is off by %.3g",
                        backend->name, worst);
    return BN_OK;
}

/* ---- a tiny model ------------------------------------------------------- */

static bn_status tiny_config(bn_config *out)
{
    static const char *const settings[] = {
        "model.hidden_size=64",        "model.intermediate_size=96",
        "model.num_hidden_layers=2",   "model.num_attention_heads=4",
        "model.num_key_value_heads=2", "model.max_position_embeddings=16",
    };
    bn_status status = BN_OK;
    BN_TRY(bn_config_init(out));
    for (size_t i = 0; status == BN_OK && i < sizeof settings / sizeof *settings; i++)
        status = bn_config_set(out, settings[i]);
    if (status != BN_OK)
        bn_config_clear(out);
    return status;
}

typedef struct tiny {
    double loss;
    float *grads; /* all parameters, in order; the caller frees */
    int64_t count;
} tiny;

static bn_status get_grads(bn_model *model, tiny *out)
{
    const bn_param_set *set = &model->params;
    int64_t at = 0;
    out->count = bn_param_set_numel(set);
    out->grads = malloc((size_t)out->count * sizeof *out->grads);
    if (!out->grads)
        return bn_error_nomem("the self-test", (size_t)out->count * sizeof *out->grads);
    for (int i = 0; i < set->count; i++) {
        const int64_t n = bn_tensor_numel(&set->items[i]->grad);
        BN_TRY(bn_backend_get_f32(model->backend, &set->items[i]->grad, out->grads + at, n));
        at += n;
    }
    return BN_OK;
}

static bn_status run_tiny(const bn_config *config, bn_backend *be, tiny *out)
{
    enum { VOCAB = 256, BATCH = 2, TIME = 16 };
    bn_status status = BN_OK;
    bn_model *model = NULL;
    bn_train_graphs graphs = {0};
    bn_buffer tokens = {0}, arena = {0};
    int32_t text[BATCH * TIME];
    bn_tensor ids = bn_tensor_2d(BN_I32, BATCH, TIME);
    bn_rng rng = bn_rng_of(1, 2);
    *out = (tiny){0};
    for (int i = 0; i < BATCH * TIME; i++)
        text[i] = (int32_t)bn_rng_below(&rng, VOCAB);
    BN_TRY_OUT(bn_model_create(config, VOCAB, be, BN_MODEL_FLOAT, &model));
    BN_TRY_OUT(bn_model_alloc(model, true));
    BN_TRY_OUT(bn_model_init(model, 1));
    BN_TRY_OUT(be->alloc(be, bn_tensor_bytes(&ids), &tokens));
    ids = bn_tensor_at(ids, &tokens, 0);
    BN_TRY_OUT(be->upload(be, &ids, text));
    BN_TRY_OUT(bn_train_graphs_record(config, model, NULL, &ids, &ids, &graphs));
    BN_TRY_OUT(be->alloc(be, bn_train_graphs_arena(&graphs), &arena));
    BN_TRY_OUT(bn_train_graphs_bind(&graphs, &arena));
    BN_TRY_OUT(bn_tape_forward(graphs.train[BN_STRENGTH_HARD], NULL));
    BN_TRY_OUT(bn_tape_backward(graphs.train[BN_STRENGTH_HARD], NULL, 1.0));
    BN_TRY_OUT(bn_backend_get_scalar(
        be, bn_tape_tensor(graphs.train[BN_STRENGTH_HARD], graphs.train_loss[BN_STRENGTH_HARD]),
        &out->loss));
    BN_TRY_OUT(get_grads(model, out));
out:
    bn_train_graphs_clear(&graphs);
    be->release(be, &arena);
    be->release(be, &tokens);
    bn_model_free(model);
    return status;
}

static bn_status compare_tiny(const bn_backend *backend, const tiny *a, const tiny *b)
{
    double difference = 0.0, norm = 0.0;
    for (int64_t i = 0; i < b->count; i++) {
        const double x = (double)a->grads[i], y = (double)b->grads[i];
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    if (!(fabs(a->loss - b->loss) <= 1e-4))
        return bn_error(BN_MISMATCH, "self-test: loss of a tiny model on %s is %.7g, expected %.7g",
                        backend->name, a->loss, b->loss);
    if (!(difference <= 1e-4 * norm))
        return bn_error(BN_MISMATCH, "self-test: gradient of a tiny model on %s is off by %.3g",
                        backend->name, sqrt(difference / norm));
    return BN_OK;
}

static bn_status check_model(bn_backend *backend, bn_backend *reference)
{
    bn_status status = BN_OK;
    bn_config config;
    tiny a = {0}, b = {0};
    BN_TRY(tiny_config(&config));
    BN_TRY_OUT(run_tiny(&config, backend, &a));
    BN_TRY_OUT(run_tiny(&config, reference, &b));
    BN_TRY_OUT(compare_tiny(backend, &a, &b));
out:
    free(a.grads);
    free(b.grads);
    bn_config_clear(&config);
    return status;
}

bn_status bn_selftest(bn_backend *backend, bn_text *report)
{
    bn_status status = BN_OK;
    bn_backend *reference;
    BN_TRY(bn_ref_backend_new(BN_F32, &reference));
    BN_TRY_OUT(check_packing());
    bn_text_add(report, "ok  packing: all base-3 bytes and codes\n");
    if (backend->real == BN_F32) {
        BN_TRY_OUT(check_product(backend, reference));
        bn_text_addf(report, "ok  quantizers and ternary product on %s\n", backend->name);
    }
    BN_TRY_OUT(check_model(backend, reference));
    bn_text_addf(report, "ok  loss and gradient of a tiny model on %s\n", backend->name);
out:
    bn_backend_free(reference);
    return status;
}
