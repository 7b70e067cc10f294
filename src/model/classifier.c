#include "model/classifier.h"

#include <stdio.h>
#include <stdlib.h>

static bn_status init_layer(bn_classifier *c, int index, int64_t in, int64_t out, double eps)
{
    char name[64];
    snprintf(name, sizeof name, "layers.%d.norm", index);
    BN_TRY(bn_norm_layer_init(&c->norms[index], name, in, eps));
    snprintf(name, sizeof name, "layers.%d.linear", index);
    return bn_linear_layer_init(&c->linears[index], name, in, out, true);
}

bn_status bn_classifier_init(const bn_config *config, bn_classifier *out)
{
    const int n = (int)config->model.num_hidden_layers + 1;
    const int64_t hidden = config->model.hidden_size;
    *out = (bn_classifier){
        .inputs = config->model.input_size,
        .classes = config->model.num_labels,
        .activation = config->model.hidden_act == BN_HIDDEN_ACT_SILU ? BN_ACT_SILU : BN_ACT_RELU2,
        .norms = calloc((size_t)n, sizeof *out->norms),
        .linears = calloc((size_t)n, sizeof *out->linears),
    };
    if (!out->norms || !out->linears)
        return bn_error_nomem("the layers", (size_t)n * sizeof *out->linears);
    for (int i = 0; i < n; i++)
        BN_TRY(init_layer(out, i, i ? hidden : out->inputs, i + 1 < n ? hidden : out->classes,
                          config->model.rms_norm_eps));
    out->n_layers = n;
    return BN_OK;
}

void bn_classifier_clear(bn_classifier *c)
{
    free(c->norms);
    free(c->linears);
    *c = (bn_classifier){0};
}

bn_status bn_classifier_register(bn_classifier *c, bn_param_set *set, bool packed)
{
    for (int i = 0; i < c->n_layers; i++) {
        BN_TRY(bn_norm_layer_register(&c->norms[i], set));
        BN_TRY(bn_linear_layer_register(&c->linears[i], set, packed));
    }
    return BN_OK;
}

bn_value bn_classifier_forward(const bn_classifier *c, bn_graph *g, bn_value x)
{
    for (int i = 0; i < c->n_layers; i++) {
        bn_linear_input in = bn_linear_input_of(bn_norm_layer_forward(&c->norms[i], g, x));
        x = bn_linear_layer_forward(&c->linears[i], g, &in);
        if (i + 1 == c->n_layers)
            break;
        x = c->activation == BN_ACT_SILU ? bn_silu(g->tape, x) : bn_relu2(g->tape, x);
        x = bn_dropout(g->tape, x, g->dropout);
    }
    return x;
}

int64_t bn_classifier_correct(const float *logits, const int32_t *labels, int64_t rows,
                              int64_t classes)
{
    int64_t correct = 0;
    for (int64_t r = 0; r < rows; r++, logits += classes) {
        int64_t best = 0;
        for (int64_t k = 1; k < classes; k++)
            if (logits[k] > logits[best])
                best = k;
        correct += best == labels[r];
    }
    return correct;
}
