#include "layers/quant_trace.h"

#include <stdlib.h>

void bn_quant_trace_clear(bn_quant_trace *trace)
{
    free(trace->sites);
    *trace = (bn_quant_trace){.mode = trace->mode};
}

bn_status bn_quant_trace_add(bn_quant_trace *trace, const bn_quant_site *site)
{
    if (trace->count == trace->capacity) {
        int capacity = trace->capacity ? 2 * trace->capacity : 32;
        bn_quant_site *sites = realloc(trace->sites, (size_t)capacity * sizeof *sites);
        if (!sites)
            return bn_error_nomem("the quantizer trace", (size_t)capacity * sizeof *sites);
        trace->sites = sites;
        trace->capacity = capacity;
    }
    trace->sites[trace->count++] = *site;
    return BN_OK;
}

bn_value bn_quant_trace_freeze(bn_quant_trace *trace, bn_tape *tape, bn_value x)
{
    bn_tensor residual = {0}; /* absent: the sum then fails with its shapes */
    if (trace->next < trace->count)
        residual = trace->sites[trace->next++].residual;
    return bn_add(tape, x, bn_tape_input(tape, &residual));
}
