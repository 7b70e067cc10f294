/* quant_trace.h - freezing the quantizers of a whole model for gradient checks.
 *
 * The straight-through gradient is the exact gradient of another function: the
 * one where each quantizer adds a constant, its residual q(x) - x at the point
 * of linearisation. A graph recorded with BN_TRACE_CAPTURE notes operand and
 * result of every quantizer; a second one recorded with BN_TRACE_FROZEN adds
 * the residuals computed from the first. Order of recording ties them together.
 */
#ifndef BN_LAYERS_QUANT_TRACE_H
#define BN_LAYERS_QUANT_TRACE_H

#include "autograd/ops.h"

typedef struct bn_quant_site {
    bn_value x;     /* the quantizer's operand on the capturing tape */
    bn_quantized q; /* its codes and scale; q.scale BN_NO_VALUE: q.codes is real */
    int64_t group_size;
    bool is_weight;
    bn_tensor residual; /* real, shape of x; memory is the caller's */
} bn_quant_site;

typedef struct bn_quant_trace {
    enum { BN_TRACE_CAPTURE, BN_TRACE_FROZEN } mode;
    bn_quant_site *sites;
    int count, capacity;
    int next; /* BN_TRACE_FROZEN: sites used so far */
} bn_quant_trace;

void bn_quant_trace_clear(bn_quant_trace *trace);

/* CAPTURE: appends a site. BN_FAIL without memory. */
bn_status bn_quant_trace_add(bn_quant_trace *trace, const bn_quant_site *site) BN_MUST_CHECK;

/* FROZEN: x plus the next site's residual. */
bn_value bn_quant_trace_freeze(bn_quant_trace *trace, bn_tape *tape, bn_value x);

#endif
