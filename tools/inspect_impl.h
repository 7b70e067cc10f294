/* inspect_impl.h - private: how the readers of inspect.h fill a bn_file_info. */
#ifndef BN_TOOLS_INSPECT_IMPL_H
#define BN_TOOLS_INSPECT_IMPL_H

#include "tools/inspect.h"

/* Room for `count` tensors, and the next one. */
bn_status bn_file_info_alloc(bn_file_info *info, int count) BN_MUST_CHECK;
bn_tensor_info *bn_file_info_add(bn_file_info *info, const char *name, int ndim,
                                 const int64_t *shape);

/* Minimum, mean and maximum of n >= 1 scales. */
void bn_scale_range(const float *scale, int64_t n, bn_quant_error *q);

/* The file at info->path, which begins as a GGUF file does. */
bn_status bn_file_info_read_gguf(bn_file_info *info) BN_MUST_CHECK;

#endif
