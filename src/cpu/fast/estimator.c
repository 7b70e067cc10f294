/* weight_estimator: rows over threads, sums of a scale in a fixed order. */
#include "cpu/fast/fast_impl.h"

#include "quant/estimator.h"
#include "quant/quantize.h"

typedef struct estimator_job {
    const bn_op_call *call;
    int64_t in, length, groups;
    double *slope; /* [O, groups] */
} estimator_job;

static estimator_job job_of(const bn_op_call *c)
{
    estimator_job j = {.call = c, .in = c->in[1].shape[1], .slope = bn_fast_data(&c->scratch)};
    j.length = bn_group_length(j.in, c->params->weight.group_size);
    j.groups = bn_groups_per_row(j.in, c->params->weight.group_size);
    return j;
}

size_t bn_fast_weight_estimator_scratch(const bn_backend *backend, const bn_op_call *c)
{
    (void)backend;
    return (size_t)(c->in[1].shape[0] * job_of(c).groups) * sizeof(double);
}

static void estimate_rows(void *arg, int64_t o, int64_t end, int worker)
{
    (void)worker;
    const estimator_job *j = arg;
    const bn_op_call *c = j->call;
    const bn_weight_params *p = &c->params->weight;
    const bn_estimate e = {p->grid, p->estimator, p->ewgs_delta};
    float *dw = bn_fast_din(c, 1), *dscale = bn_fast_din(c, 2);
    for (; o < end; o++) {
        double *slope = dscale ? j->slope + o * j->groups : NULL;
        bn_estimate_row_f32(&e, bn_fast_in(c, 1) + o * j->in,
                            (const float *)bn_fast_data(&c->dout) + o * j->in, j->in, j->length,
                            bn_fast_in(c, 2) + bn_scale_index(o, 0, j->in, p->group_size),
                            p->group_size == BN_PER_TENSOR ? 0 : 1, dw ? dw + o * j->in : NULL,
                            c->accumulate[1], slope);
        for (int64_t g = 0; dscale && p->group_size != BN_PER_TENSOR && g < j->groups; g++) {
            const int64_t n = bn_fast_min(j->length, j->in - g * j->length);
            float *d = dscale + o * j->groups + g;
            const double value = slope[g] * bn_lsq_factor(p->grid, n);
            *d = (float)(c->accumulate[2] ? (double)*d + value : value);
        }
    }
}

/* dout [O,I] -> din1 [O,I] of the weight, din2 of its scale */
bn_status bn_fast_weight_estimator_backward(bn_backend *backend, const bn_op_call *c)
{
    const bn_weight_params *p = &c->params->weight;
    const int64_t O = c->in[1].shape[0];
    estimator_job j = job_of(c);
    float *dscale = bn_fast_din(c, 2);
    bn_fast_ranges(backend, O, bn_fast_chunk_rows(j.in), estimate_rows, &j);
    if (!dscale || p->group_size != BN_PER_TENSOR)
        return BN_OK;
    double total = 0;
    for (int64_t o = 0; o < O; o++)
        total += j.slope[o];
    total *= bn_lsq_factor(p->grid, O * j.in);
    *dscale = (float)(c->accumulate[2] ? (double)*dscale + total : total);
    return BN_OK;
}
