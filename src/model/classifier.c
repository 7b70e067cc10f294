#include "model/classifier.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"

static bn_status add_layer(bn_classifier *c, int index, int64_t in, int64_t out,
                           const bn_quant_spec *spec)
{
    char name[64];
    snprintf(name, sizeof name, "layers.%d.norm", index);
    BN_TRY(bn_norm_layer_init(&c->norms[index], name, in, 1e-5));
    snprintf(name, sizeof name, "layers.%d.linear", index);
    BN_TRY(bn_linear_layer_init(&c->linears[index], name, in, out, true));
    if (spec)
        bn_linear_layer_quantize(&c->linears[index], spec);
    BN_TRY(bn_norm_layer_register(&c->norms[index], &c->params));
    return bn_linear_layer_register(&c->linears[index], &c->params, false);
}

static bn_status fill_param(bn_classifier *c, int index, uint64_t seed)
{
    const bn_param *p = c->params.items[index];
    const int64_t n = bn_tensor_numel(&p->value);
    const double deviation = 1 / sqrt((double)bn_tensor_cols(&p->value));
    float *values = calloc((size_t)n, sizeof *values);
    if (!values)
        return bn_error_nomem(p->name, (size_t)n * sizeof *values);
    bn_rng rng = bn_rng_of(seed, UINT64_C(0x3000) + (uint64_t)index);
    for (int64_t i = 0; i < n; i++) {
        if (p->kind == BN_PARAM_NORM)
            values[i] = 1;
        else if (p->kind == BN_PARAM_LINEAR)
            values[i] = (float)(bn_rng_normal(&rng) * deviation);
    }
    bn_status status = bn_backend_put_f32(c->backend, &p->value, values, n);
    free(values);
    return status;
}

bn_status bn_classifier_new(bn_backend *backend, const int64_t *sizes, int n_layers,
                            bn_activation activation, const bn_quant_spec *spec, uint64_t seed,
                            bn_classifier **out)
{
    bn_status status = BN_OK;
    if (n_layers < 1)
        return bn_error(BN_FAIL, "an MLP needs at least one layer, not %d", n_layers);
    bn_classifier *c = calloc(1, sizeof *c);
    if (!c)
        return bn_error_nomem("the MLP", sizeof *c);
    *c = (bn_classifier){.backend = backend, .n_layers = n_layers, .activation = activation};
    bn_param_set_init(&c->params, backend->real);
    c->norms = calloc((size_t)n_layers, sizeof *c->norms);
    c->linears = calloc((size_t)n_layers, sizeof *c->linears);
    if (!c->norms || !c->linears) {
        status = bn_error_nomem("the MLP's layers", (size_t)n_layers * sizeof *c->linears);
        goto out;
    }
    for (int i = 0; i < n_layers; i++)
        BN_TRY_OUT(add_layer(c, i, sizes[i], sizes[i + 1], spec));
    BN_TRY_OUT(bn_param_set_layout(&c->params));
    BN_TRY_OUT(backend->alloc(backend, c->params.block_bytes, &c->values));
    BN_TRY_OUT(backend->alloc(backend, c->params.block_bytes, &c->grads));
    bn_param_set_bind(&c->params, &c->values, &c->grads);
    for (int i = 0; i < c->params.count; i++)
        BN_TRY_OUT(fill_param(c, i, seed));
out:
    if (status != BN_OK)
        bn_classifier_free(c);
    else
        *out = c;
    return status;
}

void bn_classifier_free(bn_classifier *c)
{
    if (!c)
        return;
    c->backend->release(c->backend, &c->values);
    c->backend->release(c->backend, &c->grads);
    bn_param_set_clear(&c->params);
    free(c->norms);
    free(c->linears);
    free(c);
}

bn_value bn_classifier_forward(const bn_classifier *c, bn_graph *g, bn_value x)
{
    for (int i = 0; i < c->n_layers; i++) {
        bn_linear_input in = bn_linear_input_of(bn_norm_layer_forward(&c->norms[i], g, x));
        x = bn_linear_layer_forward(&c->linears[i], g, &in);
        if (i + 1 < c->n_layers)
            x = c->activation == BN_ACT_SILU ? bn_silu(g->tape, x) : bn_relu2(g->tape, x);
    }
    return x;
}
