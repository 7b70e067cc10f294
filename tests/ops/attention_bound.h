/* attention_bound.h - how far float32 arithmetic may take ATTENTION from its exact values.
 *
 * No number relative to the result will do: a probability exp(s) has the error of its score s,
 * which grows with |s|, and where one key takes all of a row the gradient of the scores,
 * ds = p (dout v - dout o), is a difference of two nearly equal numbers. So the bound is a running
 * error analysis of the operands at hand (Higham, "Accuracy and Stability of Numerical
 * Algorithms", 3.1: a sum of n products in any order has an error of at most n u times the sum of
 * their magnitudes). To first order, with u = 2^-24, A the largest sum over d of |q k| / sqrt(hd)
 * of a row, n its keys:
 *
 *   E = u ((hd + 3) A + 8)         of p, relative: hd products, the scale, a maximum taken off; exp
 *   out   (2 E + 2 (n + 2) u) sum p |v|
 *   lse   E + (n + 4) u + 2 u |lse|
 *   ds    e = p (E |dout v - dout o| + (hd + 3) u (sum |dout v| + sum |dout o|)) / sqrt(hd)
 *   dq    sum (e + n u |ds|) |k|,  dk  sum (e + n u |ds|) |q|,  dv  sum p (E + n u) |dout|
 *
 * where n of dk and dv counts the queries that are added up. */
#ifndef BN_TESTS_OPS_ATTENTION_BOUND_H
#define BN_TESTS_OPS_ATTENTION_BOUND_H

#include "backend/op.h"

/* One bound per element of output j, or of gradient i; the caller frees. `call` has been run by
 * the float32 reference, whose memory is the host's. start: |what a gradient is added to|. */
double *attention_bound_of_output(const bn_op_call *call, int j);
double *attention_bound_of_gradient(const bn_op_call *call, int i, double start);

#endif
