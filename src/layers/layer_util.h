/* layer_util.h - names and parameters, for the layers' own files. */
#ifndef BN_LAYERS_LAYER_UTIL_H
#define BN_LAYERS_LAYER_UTIL_H

#include "layers/layers.h"

/* prefix + name into a layer's name field. */
bn_status bn_layer_name(char to[BN_LAYER_NAME_MAX], const char *prefix,
                        const char *name) BN_MUST_CHECK;

/* Adds "<layer>.<what>" to the set. */
bn_status bn_layer_param(bn_param_set *set, const char *layer, const char *what, bn_param_kind kind,
                         int ndim, const int64_t *shape, bn_param **out) BN_MUST_CHECK;

/* A Linear without bias named prefix + name. */
bn_status bn_layer_linear(bn_linear_layer *layer, const char *prefix, const char *name, int64_t in,
                          int64_t out) BN_MUST_CHECK;

#endif
