/* product_cases.h - operands of any size for the tests of products. */
#ifndef BN_TESTS_OPENCL_PRODUCT_CASES_H
#define BN_TESTS_OPENCL_PRODUCT_CASES_H

#include "ops/op_cases.h"

/* `data` becomes operand i of k, which owns it. */
void case_place(op_case *k, int i, bn_tensor t, void *data);

void case_reals(op_case *k, int i, bn_tensor t, double scale); /* normal numbers */
void case_positives(op_case *k, int i, bn_tensor t);           /* 0.01 .. 0.06 */
void case_codes(op_case *k, int i, bn_tensor t);               /* int8, or packed ternary */

op_case case_linear(int64_t rows, int64_t in, int64_t out, bool bias);
op_case case_bitlinear(int64_t rows, int64_t in, int64_t out, int64_t group, bool bias);
void case_clear(op_case *k);

/* Bytes of the results of one run, result i from offset at[i] on: outputs after
 * forward, then the gradients after backward on an upstream gradient made from
 * the element's number. The caller frees. */
unsigned char *case_run(const op_case *k, bn_backend *backend, size_t *bytes);

#endif
