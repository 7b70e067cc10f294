#include "autograd/tape_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bn_status bn_tape_new(bn_backend *backend, bn_tape **out)
{
    bn_tape *tape = calloc(1, sizeof *tape);
    if (!tape)
        return bn_error_nomem("a tape", sizeof *tape);
    tape->backend = backend;
    tape->target = BN_NO_VALUE;
    *out = tape;
    return BN_OK;
}

void bn_tape_free(bn_tape *tape)
{
    if (!tape)
        return;
    free(tape->values);
    free(tape->nodes);
    free(tape->shares_dout);
    free(tape->accumulates);
    free(tape->blocks);
    free(tape->calls);
    free(tape);
}

/* Remembers the first error together with its text. */
static bn_value fail(bn_tape *tape, bn_status status)
{
    if (tape->status == BN_OK) {
        tape->status = status;
        snprintf(tape->error, sizeof tape->error, "%s", bn_error_text());
    }
    return BN_NO_VALUE;
}

bn_status bn_tape_status(const bn_tape *tape)
{
    return tape->status == BN_OK ? BN_OK : bn_error(tape->status, "%s", tape->error);
}

bn_backend *bn_tape_backend(const bn_tape *tape)
{
    return tape->backend;
}

/* Makes room for one more element of an array that grows by doubling. */
static bn_status grow(void *array, int count, int *capacity, size_t size)
{
    if (count < *capacity)
        return BN_OK;
    int wanted = *capacity ? 2 * *capacity : 64;
    void *old, *bigger;
    memcpy(&old, array, sizeof old);
    bigger = realloc(old, (size_t)wanted * size);
    if (!bigger)
        return bn_error_nomem("the tape", (size_t)wanted * size);
    memcpy(array, &bigger, sizeof bigger);
    *capacity = wanted;
    return BN_OK;
}

static bn_value add_value(bn_tape *tape, const tape_value *value)
{
    bn_status status = grow(&tape->values, tape->n_values, &tape->cap_values, sizeof *tape->values);
    if (tape->planned)
        status = bn_error(BN_FAIL, "the tape is planned: nothing more can be recorded");
    if (status != BN_OK)
        return fail(tape, status);
    tape->values[tape->n_values] = *value;
    return tape->n_values++;
}

bn_value bn_tape_leaf(bn_tape *tape, const bn_tensor *tensor, const bn_tensor *grad)
{
    tape_value value = {.tensor = *tensor, .producer = -1, .is_leaf = true};
    if (grad && bn_tensor_present(grad)) {
        value.grad = *grad;
        value.requires_grad = true;
    }
    return add_value(tape, &value);
}

bn_value bn_tape_param(bn_tape *tape, bn_param *param)
{
    return bn_tape_leaf(tape, &param->value, param->trainable ? &param->grad : NULL);
}

bn_value bn_tape_input(bn_tape *tape, const bn_tensor *tensor)
{
    return bn_tape_leaf(tape, tensor, NULL);
}

void bn_tape_no_grad_push(bn_tape *tape)
{
    tape->no_grad_depth++;
}

void bn_tape_no_grad_pop(bn_tape *tape)
{
    tape->no_grad_depth--;
}

void bn_tape_retain(bn_tape *tape, bn_value value)
{
    if (value != BN_NO_VALUE)
        tape->values[value].retained = true;
}

void bn_tape_retain_all(bn_tape *tape)
{
    tape->retain_all = true;
}

static bool input_gets_grad(const bn_tape *tape, bn_op op, const bn_value *in, int i)
{
    return (bn_op_table[op].grads >> i & 1u) && in[i] != BN_NO_VALUE &&
           tape->values[in[i]].requires_grad;
}

/* The value whose gradient buffer v's gradient will share: v itself, or what it
 * was made from by reshapes and straight-through quantizers. */
static bn_value grad_origin(const bn_tape *tape, bn_value v)
{
    while (tape->values[v].producer >= 0) {
        const bn_tape_node *node = &tape->nodes[tape->values[v].producer];
        if (!(bn_op_table[node->op].traits & BN_PASS))
            break;
        v = node->in[0];
    }
    return v;
}

/* A kernel may write its gradients in one pass, so no two of them may share a
 * buffer: x * x is recorded as x * copy(x). */
static void separate_twins(bn_tape *tape, bn_op op, int n_in, bn_value *in)
{
    for (int i = 1; i < n_in; i++)
        for (int j = 0; j < i; j++)
            if (input_gets_grad(tape, op, in, i) && input_gets_grad(tape, op, in, j) &&
                grad_origin(tape, in[i]) == grad_origin(tape, in[j])) {
                bn_op_params whole = {.slice = {.length = tape->values[in[i]].tensor.shape[0]}};
                bn_value out[BN_MAX_OUT];
                in[i] = bn_tape_record(tape, BN_OP_SLICE, &whole, 1, &in[i], out);
            }
}

bn_value bn_tape_record(bn_tape *tape, bn_op op, const bn_op_params *params, int n_in,
                        const bn_value *in, bn_value out[BN_MAX_OUT])
{
    const bn_op_info *info = &bn_op_table[op];
    bn_tape_node node = {.op = op, .n_in = info->n_in};
    for (int i = 0; i < BN_MAX_OUT; i++)
        node.out[i] = out[i] = BN_NO_VALUE;
    if (params)
        node.params = *params;
    if (tape->status != BN_OK)
        return BN_NO_VALUE;
    for (int i = 0; i < BN_MAX_IN; i++)
        node.in[i] = i < n_in ? in[i] : BN_NO_VALUE;
    if (tape->no_grad_depth == 0)
        separate_twins(tape, op, info->n_in, node.in);

    bn_op_call call = {.op = op, .params = &node.params};
    bool requires_grad = false;
    for (int i = 0; i < info->n_in; i++) {
        if (node.in[i] != BN_NO_VALUE)
            call.in[i] = tape->values[node.in[i]].tensor;
        requires_grad |= input_gets_grad(tape, op, node.in, i);
    }
    bn_status status = bn_op_infer(&call, tape->backend->real);
    if (status == BN_OK)
        status = grow(&tape->nodes, tape->n_nodes, &tape->cap_nodes, sizeof *tape->nodes);
    if (status != BN_OK)
        return fail(tape, status);

    for (int i = 0; i < info->n_out; i++) {
        tape_value value = {.tensor = call.out[i], .producer = tape->n_nodes};
        value.requires_grad = i == 0 && requires_grad && tape->no_grad_depth == 0;
        node.out[i] = out[i] = add_value(tape, &value);
        if (out[i] == BN_NO_VALUE)
            return BN_NO_VALUE;
    }
    tape->nodes[tape->n_nodes++] = node;
    return out[0];
}

uint32_t bn_tape_next_site(bn_tape *tape)
{
    return tape->next_site++;
}

static const bn_run default_run;

static bn_status run_hooked(bn_tape *tape, int node, bool backward, bn_status status)
{
    if (status == BN_OK && tape->hook)
        tape->hook(tape->hook_arg, tape, node, backward);
    return status;
}

bn_status bn_tape_forward(bn_tape *tape, const bn_run *run)
{
    if (!tape->bound)
        return bn_error(BN_FAIL, "the tape has no memory yet (bn_tape_bind)");
    for (int i = 0; i < tape->n_nodes; i++) {
        bn_op_call *call = &tape->calls[i].forward;
        if (bn_op_table[call->op].traits & BN_VIEW)
            continue;
        call->run = run ? run : &default_run;
        BN_TRY(run_hooked(tape, i, false, bn_backend_forward(tape->backend, call)));
    }
    return BN_OK;
}

bn_status bn_tape_backward(bn_tape *tape, const bn_run *run, double seed)
{
    if (!tape->bound || tape->target == BN_NO_VALUE || !tape->values[tape->target].has_grad)
        return bn_error(BN_FAIL, "the tape has no memory or no target to differentiate");
    const float seed32 = (float)seed;
    const bn_tensor *seed_at = &tape->values[tape->target].grad;
    const void *seed_bits = seed_at->dtype == BN_F64 ? (const void *)&seed : (const void *)&seed32;
    BN_TRY(tape->backend->upload(tape->backend, seed_at, seed_bits));
    for (int i = tape->n_nodes - 1; i >= 0; i--) {
        bn_op_call *call = &tape->calls[i].backward;
        if (!tape->nodes[i].differentiated || (bn_op_table[call->op].traits & BN_PASS))
            continue;
        bool wanted = false;
        for (int k = 0; k < BN_MAX_IN; k++)
            wanted |= bn_tensor_present(&call->din[k]);
        if (!wanted)
            continue; /* every gradient shares dout's buffer */
        call->run = run ? run : &default_run;
        BN_TRY(run_hooked(tape, i, true, bn_backend_backward(tape->backend, call)));
    }
    return BN_OK;
}

const bn_tensor *bn_tape_tensor(const bn_tape *tape, bn_value value)
{
    static const bn_tensor absent;
    return value == BN_NO_VALUE ? &absent : &tape->values[value].tensor;
}

bn_tape_memory bn_tape_memory_of(const bn_tape *tape)
{
    return tape->memory;
}

int bn_tape_length(const bn_tape *tape)
{
    return tape->n_nodes;
}

const bn_tape_node *bn_tape_node_at(const bn_tape *tape, int index)
{
    return &tape->nodes[index];
}

void bn_tape_set_hook(bn_tape *tape, bn_tape_hook hook, void *arg)
{
    tape->hook = hook;
    tape->hook_arg = arg;
}

bn_op_call tape_shape_call(const bn_tape *tape, int index)
{
    const bn_tape_node *node = &tape->nodes[index];
    bn_op_call call = {.op = node->op, .params = &node->params};
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] != BN_NO_VALUE)
            call.in[i] = tape->values[node->in[i]].tensor;
    for (int i = 0; i < bn_op_table[node->op].n_out; i++)
        call.out[i] = tape->values[node->out[i]].tensor;
    return call;
}

bool tape_wants_grad(const bn_tape *tape, const bn_tape_node *node, int i)
{
    return node->differentiated && input_gets_grad(tape, node->op, node->in, i);
}
