#include "autograd/op_instance.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

bn_status bn_real_upload(bn_backend *backend, const bn_tensor *dst, const double *src)
{
    if (dst->dtype == BN_F64)
        return backend->upload(backend, dst, src);
    size_t n = (size_t)bn_tensor_numel(dst);
    float *narrow = malloc(n * sizeof *narrow);
    if (!narrow)
        return bn_error_nomem("an upload", n * sizeof *narrow);
    for (size_t i = 0; i < n; i++)
        narrow[i] = (float)src[i];
    bn_status status = backend->upload(backend, dst, narrow);
    free(narrow);
    return status;
}

bn_status bn_real_download(bn_backend *backend, const bn_tensor *src, double *dst)
{
    if (src->dtype == BN_F64)
        return backend->download(backend, src, dst);
    size_t n = (size_t)bn_tensor_numel(src);
    float *narrow = malloc(n * sizeof *narrow);
    if (!narrow)
        return bn_error_nomem("a download", n * sizeof *narrow);
    bn_status status = backend->download(backend, src, narrow);
    for (size_t i = 0; status == BN_OK && i < n; i++)
        dst[i] = (double)narrow[i];
    free(narrow);
    return status;
}

/* Gives `t` the next place; `*end` is the bytes placed so far. */
static void place(bn_tensor *t, const bn_buffer *memory, size_t *end)
{
    if (!bn_tensor_present(t))
        return;
    *t = bn_tensor_at(*t, memory, *end);
    *end = bn_align_up(*end + bn_tensor_bytes(t), BN_ALIGN);
}

static bn_tensor scratch_of(const bn_op_instance *in, bn_scratch_rule rule)
{
    size_t bytes = rule ? rule(in->backend, &in->call) : 0;
    return bytes ? bn_tensor_1d(BN_U8, (int64_t)bytes) : (bn_tensor){0};
}

static bn_status upload_inputs(bn_op_instance *in)
{
    for (int i = 0; i < BN_MAX_IN; i++) {
        const bn_tensor *t = &in->call.in[i];
        if (!bn_tensor_present(t))
            continue;
        if (in->spec.in[i].dtype == BN_F64)
            BN_TRY(bn_real_upload(in->backend, t, in->spec.data[i]));
        else
            BN_TRY(in->backend->upload(in->backend, t, in->spec.data[i]));
    }
    return BN_OK;
}

bn_status bn_op_instance_init(bn_op_instance *instance, bn_backend *backend, const bn_op_spec *spec)
{
    *instance = (bn_op_instance){.backend = backend, .spec = *spec};
    bn_op_call *c = &instance->call;
    c->op = spec->op;
    c->params = &instance->spec.params;
    c->run = &instance->spec.run;
    for (int i = 0; i < BN_MAX_IN; i++) {
        c->in[i] = spec->in[i];
        if (c->in[i].dtype == BN_F64)
            c->in[i].dtype = backend->real;
    }
    BN_TRY(bn_op_infer(c, backend->real));
    c->scratch = scratch_of(instance, backend->rows[spec->op].forward_scratch);
    instance->backward_scratch = scratch_of(instance, backend->rows[spec->op].backward_scratch);

    size_t bytes = 0;
    for (int pass = 0; pass < 2; pass++) { /* first the size, then the places */
        bytes = 0;
        for (int i = 0; i < BN_MAX_IN; i++) {
            place(&c->in[i], &instance->memory, &bytes);
            if (bn_op_instance_grads(instance) >> i & 1u) {
                c->din[i] = c->in[i];
                c->din[i].dtype = backend->real;
                place(&c->din[i], &instance->memory, &bytes);
            }
        }
        for (int i = 0; i < BN_MAX_OUT; i++)
            place(&c->out[i], &instance->memory, &bytes);
        c->dout = c->out[0];
        c->dout.dtype = backend->real;
        place(&c->dout, &instance->memory, &bytes);
        place(&c->scratch, &instance->memory, &bytes);
        place(&instance->backward_scratch, &instance->memory, &bytes);
        if (pass == 0)
            BN_TRY(backend->alloc(backend, bytes, &instance->memory));
    }
    return upload_inputs(instance);
}

void bn_op_instance_clear(bn_op_instance *instance)
{
    if (instance->backend)
        instance->backend->release(instance->backend, &instance->memory);
    *instance = (bn_op_instance){0};
}

bn_status bn_op_instance_forward(bn_op_instance *instance)
{
    const bn_op_call *c = &instance->call;
    bn_backend *backend = instance->backend;
    if (!(bn_op_table[c->op].traits & BN_VIEW))
        return bn_backend_forward(backend, c);
    void *copy = malloc(bn_tensor_bytes(&c->in[0]));
    if (!copy)
        return bn_error_nomem("a view", bn_tensor_bytes(&c->in[0]));
    bn_status status = backend->download(backend, &c->in[0], copy);
    if (status == BN_OK)
        status = backend->upload(backend, &c->out[0], copy);
    free(copy);
    return status;
}

unsigned bn_op_instance_grads(const bn_op_instance *instance)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < BN_MAX_IN; i++)
        if (bn_tensor_present(&instance->call.in[i]))
            mask |= bn_op_table[instance->call.op].grads & 1u << i;
    return mask;
}

bn_status bn_op_instance_backward(bn_op_instance *instance, unsigned wanted, unsigned accumulate)
{
    bn_op_call c = instance->call;
    unsigned keeps = bn_op_table[c.op].keeps;
    c.scratch = instance->backward_scratch;
    for (unsigned i = 0; i < BN_MAX_IN; i++) {
        c.accumulate[i] = accumulate >> i & 1u;
        if (!(wanted >> i & 1u))
            c.din[i] = (bn_tensor){0};
        if (!(keeps >> i & 1u))
            c.in[i].buffer = NULL;
    }
    for (unsigned i = 0; i < BN_MAX_OUT; i++)
        if (!(keeps & (unsigned)BN_O0 << i))
            c.out[i].buffer = NULL;
    return bn_backend_backward(instance->backend, &c);
}
