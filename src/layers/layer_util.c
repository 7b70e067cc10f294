#include "layers/layer_util.h"

#include <stdio.h>

bn_status bn_layer_name(char to[BN_LAYER_NAME_MAX], const char *prefix, const char *name)
{
    int n = snprintf(to, BN_LAYER_NAME_MAX, "%s%s", prefix, name);
    if (n < 0 || n >= BN_LAYER_NAME_MAX)
        return bn_error(BN_FAIL, "layer name '%s%s' is longer than %d bytes", prefix, name,
                        BN_LAYER_NAME_MAX - 1);
    return BN_OK;
}

bn_status bn_layer_param(bn_param_set *set, const char *layer, const char *what, bn_param_kind kind,
                         int ndim, const int64_t *shape, bn_param **out)
{
    char name[BN_PARAM_NAME_MAX];
    int n = snprintf(name, sizeof name, "%s.%s", layer, what);
    if (n < 0 || (size_t)n >= sizeof name)
        return bn_error(BN_FAIL, "parameter name '%s.%s' is too long", layer, what);
    return bn_param_set_add(set, name, kind, ndim, shape, out);
}

bn_status bn_layer_linear(bn_linear_layer *layer, const char *prefix, const char *name, int64_t in,
                          int64_t out)
{
    char full[BN_LAYER_NAME_MAX];
    BN_TRY(bn_layer_name(full, prefix, name));
    return bn_linear_layer_init(layer, full, in, out, false);
}
