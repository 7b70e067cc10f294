/* The results of sensitivity.h as text and as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/sensitivity_print.h"
#include "tools/tool_main.h"

static bn_status print_json(const bn_sensitivity *s, const bn_loaded *loaded, const char *data,
                            const char *rules)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "file", loaded->path);
    bn_json_string(&json, "data", data);
    bn_json_int(&json, "labels", s->labels);
    bn_json_double(&json, "loss", s->loss);
    bn_json_double(&json, "bits_per_weight", s->bits);
    bn_json_string(&json, "switched_to", s->to_float ? "float" : "ternary");
    bn_json_array(&json, "layers");
    for (int i = 0; i < s->count; i++) {
        const bn_layer_sensitivity *l = &s->layers[i];
        bn_json_object(&json, NULL);
        bn_json_string(&json, "name", l->name);
        bn_json_int(&json, "weights", l->weights);
        bn_json_double(&json, "bits_quantized", l->bits);
        bn_json_double(&json, "loss", l->loss);
        bn_json_double(&json, "change", l->change);
        bn_json_object_end(&json);
    }
    bn_json_array_end(&json);
    if (rules) {
        bn_json_object(&json, "proposal");
        bn_json_double(&json, "bits_per_weight", s->bits_proposed);
        bn_json_double(&json, "loss", s->loss_proposed);
        bn_json_raw(&json, "config", rules);
        bn_json_object_end(&json);
    }
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

static bn_status print_text(const bn_sensitivity *s, const char *data, const char *rules)
{
    bn_text text = {0};
    int width = 16;
    for (int i = 0; i < s->count; i++) {
        const int length = (int)strlen(s->layers[i].name);
        width = length > width ? length : width;
    }
    bn_text_addf(&text, "loss %.6f on %s, %.3f bits per weight\n\n", s->loss, data, s->bits);
    bn_text_addf(&text, "%-*s  %10s %6s  %9s %10s\n", width,
                 s->to_float ? "alone float" : "alone ternary", "weights", "bits", "loss",
                 "change");
    for (int i = 0; i < s->count; i++) {
        const bn_layer_sensitivity *l = &s->layers[i];
        bn_text_addf(&text, "%-*s  %10lld %6.3f  %9.6f %+10.6f\n", width, l->name,
                     (long long)l->weights, l->bits, l->loss, l->change);
    }
    if (rules)
        bn_text_addf(&text, "\nproposed: %.3f bits per weight, loss %.6f\n%s", s->bits_proposed,
                     s->loss_proposed, rules);
    return bn_tool_print_text(&text);
}

bn_status bn_sensitivity_run(bn_loaded *loaded, const bn_sensitivity_data *data, double budget,
                             bool json)
{
    bn_status status = BN_OK;
    bn_sensitivity s;
    char *rules = NULL;
    BN_TRY(bn_sensitivity_measure(loaded, data, &s));
    if (budget > 0) {
        BN_TRY_OUT(bn_sensitivity_choose(&s, loaded, data, budget));
        BN_TRY_OUT(bn_sensitivity_rules(&s, &loaded->config, &rules));
    }
    status = json ? print_json(&s, loaded, data->path, rules) : print_text(&s, data->path, rules);
out:
    free(rules);
    bn_sensitivity_clear(&s);
    return status;
}
