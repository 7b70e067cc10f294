/* The memory plan of a tape: who needs a gradient, who shares a buffer, how
 * long everything lives, and where in the arena it goes. */
#include "autograd/tape_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/* ---- who gets a gradient ------------------------------------------------ */

static bn_status mark_differentiated(bn_tape *tape)
{
    tape_value *target = &tape->values[tape->target];
    if (bn_tensor_numel(&target->tensor) != 1 || target->tensor.dtype != tape->backend->real)
        return bn_error(BN_FAIL, "backward starts from one real element, the target has %lld",
                        (long long)bn_tensor_numel(&target->tensor));
    if (!target->requires_grad || target->is_leaf)
        return bn_error(BN_FAIL, "the target does not depend on anything that wants a gradient");
    target->has_grad = true;
    for (int i = tape->n_nodes - 1; i >= 0; i--) {
        bn_tape_node *node = &tape->nodes[i];
        if (!tape->values[node->out[0]].has_grad)
            continue;
        node->differentiated = true;
        for (int k = 0; k < node->n_in; k++)
            if (tape_wants_grad(tape, node, k))
                tape->values[node->in[k]].has_grad = true;
    }
    return BN_OK;
}

/* ---- who shares a buffer ------------------------------------------------ */

static bn_value root_of(const bn_tape *tape, bn_value v)
{
    while (tape->values[v].grad_of != v)
        v = tape->values[v].grad_of;
    return v;
}

static void share_memory_of_views(bn_tape *tape)
{
    for (int v = 0; v < tape->n_values; v++) {
        tape_value *value = &tape->values[v];
        value->memory_of = value->grad_of = v;
        if (!value->is_leaf && (bn_op_table[tape->nodes[value->producer].op].traits & BN_VIEW))
            value->memory_of = tape->values[tape->nodes[value->producer].in[0]].memory_of;
    }
}

/* Merges the gradient of `v` into that of `into`. A leaf's gradient is memory
 * from outside, so a leaf stays the root of its group. */
static void merge_grad(bn_tape *tape, bn_value v, bn_value into)
{
    bn_value a = root_of(tape, v), b = root_of(tape, into);
    if (tape->values[b].is_leaf)
        tape->values[a].grad_of = b;
    else
        tape->values[b].grad_of = a;
}

/* Nodes that touch a gradient group's buffer: those that write into it (its
 * consumers that do not share dout; the seed counts as one after the last
 * node) and the first that reads it (the producer of a member, unless it shares
 * dout too). Backward runs from high indices to low. */
typedef struct group_span {
    int first_writer, last_writer, first_reader;
} group_span;

static group_span span_of(const bn_tape *tape, bn_value v, int except)
{
    const bn_value root = root_of(tape, v);
    group_span span = {tape->n_nodes, -1, tape->n_nodes};
    if (root_of(tape, tape->target) == root)
        span.last_writer = tape->n_nodes;
    for (int i = tape->n_nodes - 1; i >= 0; i--) {
        const bn_tape_node *node = &tape->nodes[i];
        if (!node->differentiated)
            continue;
        for (int k = 0; k < node->n_in; k++) {
            if (i == except || !tape_wants_grad(tape, node, k) ||
                (tape->shares_dout[i] >> k & 1u) || root_of(tape, node->in[k]) != root)
                continue;
            span.first_writer = i;
            if (span.last_writer < i)
                span.last_writer = i;
        }
        if (!(bn_op_table[node->op].traits & BN_PASS) && root_of(tape, node->out[0]) == root)
            span.first_reader = i;
    }
    return span;
}

/* y = a + b: both gradients equal y's. Input `a` may share y's buffer if it is
 * complete when backward reaches the sum, and a's own writers run after
 * everyone who reads it as it is then; `b` may share too if nothing else writes
 * to it and it is read before a's writers run. (In a residual block, a is the
 * stream and b the branch: the whole stream then has one buffer.) */
static bool share_add(bn_tape *tape, int i, int ka, int kb)
{
    const bn_tape_node *node = &tape->nodes[i];
    const bn_value a = node->in[ka], b = node->in[kb], y = node->out[0];
    if (!tape_wants_grad(tape, node, ka) || tape->values[root_of(tape, a)].is_leaf)
        return false;
    const group_span to_a = span_of(tape, a, i), to_y = span_of(tape, y, i);
    if (to_y.first_writer < i || to_a.last_writer >= to_y.first_reader)
        return false;
    bool with_b = tape_wants_grad(tape, node, kb) && !tape->values[root_of(tape, b)].is_leaf &&
                  root_of(tape, a) != root_of(tape, b);
    if (with_b) {
        const group_span to_b = span_of(tape, b, i);
        with_b = to_b.last_writer < 0 && to_a.last_writer < to_b.first_reader;
    }
    merge_grad(tape, a, y);
    tape->shares_dout[i] |= (uint8_t)(1u << ka);
    if (with_b) {
        merge_grad(tape, b, y);
        tape->shares_dout[i] |= (uint8_t)(1u << kb);
    }
    return true;
}

/* Straight-through quantizers and reshapes always share. Sums are visited from
 * the last to the first, when all later sharing is known. */
static void share_gradients(bn_tape *tape)
{
    for (int i = 0; i < tape->n_nodes; i++) {
        const bn_tape_node *node = &tape->nodes[i];
        if ((bn_op_table[node->op].traits & BN_PASS) && tape_wants_grad(tape, node, 0)) {
            merge_grad(tape, node->out[0], node->in[0]);
            tape->shares_dout[i] = 1;
        }
    }
    for (int i = tape->n_nodes - 1; i >= 0; i--)
        if (tape->nodes[i].op == BN_OP_ADD && tape->nodes[i].differentiated &&
            !share_add(tape, i, 0, 1))
            share_add(tape, i, 1, 0);
}

/* First writer in backward order stores, later ones add; leaf gradients and the
 * target (seeded by the caller) are always added to. */
static void choose_accumulation(bn_tape *tape, bool *written)
{
    memset(written, 0, (size_t)tape->n_values);
    written[root_of(tape, tape->target)] = true;
    for (int i = tape->n_nodes - 1; i >= 0; i--) {
        const bn_tape_node *node = &tape->nodes[i];
        for (int k = 0; k < node->n_in; k++) {
            if (!tape_wants_grad(tape, node, k) || (tape->shares_dout[i] >> k & 1u))
                continue;
            bn_value root = root_of(tape, node->in[k]);
            if (written[root] || tape->values[root].is_leaf)
                tape->accumulates[i] |= (uint8_t)(1u << k);
            written[root] = true;
        }
    }
}

/* ---- lifetimes ---------------------------------------------------------- */

static int ticks(const bn_tape *tape)
{
    return tape->target == BN_NO_VALUE ? tape->n_nodes : 2 * tape->n_nodes;
}

static int backward_tick(const bn_tape *tape, int node)
{
    return 2 * tape->n_nodes - 1 - node;
}

static void live_at(tape_block *block, int tick)
{
    if (tick < block->first)
        block->first = tick;
    if (tick > block->last)
        block->last = tick;
}

static tape_block *add_block(bn_tape *tape, size_t bytes, int role, int owner)
{
    tape_block *block = &tape->blocks[tape->n_blocks++];
    *block = (tape_block){
        .bytes = bn_align_up(bytes, BN_ALIGN), .first = ticks(tape), .last = -1, .owner = owner};
    block->role = role;
    return block;
}

/* One block per value that owns memory; block_of maps values to blocks. */
static void value_blocks(bn_tape *tape, tape_block **block_of)
{
    for (int v = 0; v < tape->n_values; v++) {
        tape_value *value = &tape->values[v];
        tape_value *owner = &tape->values[value->memory_of];
        if (owner->is_leaf)
            continue;
        if (value->memory_of == v)
            block_of[v] = add_block(tape, bn_tensor_bytes(&value->tensor), BLOCK_VALUE, v);
        tape_block *block = block_of[value->memory_of];
        live_at(block, value->producer);
        if (value->retained || tape->retain_all || v == tape->target)
            live_at(block, ticks(tape) - 1);
    }
    for (int i = 0; i < tape->n_nodes; i++) {
        const bn_tape_node *node = &tape->nodes[i];
        const bn_op_info *info = &bn_op_table[node->op];
        for (int k = 0; k < node->n_in + info->n_out; k++) {
            bool is_in = k < node->n_in;
            bn_value v = is_in ? node->in[k] : node->out[k - node->n_in];
            unsigned bit = is_in ? 1u << k : (unsigned)BN_O0 << (k - node->n_in);
            if (v == BN_NO_VALUE || tape->values[tape->values[v].memory_of].is_leaf)
                continue;
            tape_block *block = block_of[tape->values[v].memory_of];
            live_at(block, i);
            if (node->differentiated && (info->keeps & bit))
                live_at(block, backward_tick(tape, i));
        }
    }
}

static void grad_blocks(bn_tape *tape, tape_block **block_of)
{
    for (int v = 0; v < tape->n_values; v++)
        if (tape->values[v].has_grad && root_of(tape, v) == v && !tape->values[v].is_leaf)
            block_of[v] = add_block(tape,
                                    (size_t)bn_tensor_numel(&tape->values[v].tensor) *
                                        bn_dtype_size(tape->backend->real),
                                    BLOCK_GRAD, v);
    tape_block *seed = block_of[root_of(tape, tape->target)];
    live_at(seed, tape->n_nodes);
    for (int i = 0; i < tape->n_nodes; i++) {
        const bn_tape_node *node = &tape->nodes[i];
        if (!node->differentiated)
            continue;
        for (int k = -1; k < node->n_in; k++) {
            if (k >= 0 && !tape_wants_grad(tape, node, k))
                continue;
            tape_block *block = block_of[root_of(tape, k < 0 ? node->out[0] : node->in[k])];
            if (block)
                live_at(block, backward_tick(tape, i));
        }
    }
}

static void scratch_blocks(bn_tape *tape)
{
    for (int i = 0; i < tape->n_nodes; i++) {
        const bn_kernel_row *row = &tape->backend->rows[tape->nodes[i].op];
        bn_op_call call = tape_shape_call(tape, i);
        size_t bytes = row->forward_scratch ? row->forward_scratch(tape->backend, &call) : 0;
        if (bytes)
            live_at(add_block(tape, bytes, BLOCK_SCRATCH, 2 * i), i);
        bool runs_back = tape->nodes[i].differentiated && row->backward_scratch;
        bytes = runs_back ? row->backward_scratch(tape->backend, &call) : 0;
        if (bytes)
            live_at(add_block(tape, bytes, BLOCK_SCRATCH, 2 * i + 1), backward_tick(tape, i));
    }
}

/* ---- placement ---------------------------------------------------------- */

static int larger_first(const void *a, const void *b)
{
    const tape_block *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (x->role > y->role) - (x->role < y->role);
}

/* Greedy by size: the largest block first, each at the lowest offset that is
 * free during its whole life. `placed` holds the placed blocks by offset. */
static void place(bn_tape *tape, tape_block **placed)
{
    qsort(tape->blocks, (size_t)tape->n_blocks, sizeof *tape->blocks, larger_first);
    tape->memory.arena = 0;
    for (int i = 0; i < tape->n_blocks; i++) {
        tape_block *block = &tape->blocks[i];
        size_t offset = 0;
        for (int j = 0; j < i; j++) {
            const tape_block *other = placed[j];
            bool together = other->first <= block->last && block->first <= other->last;
            if (!together)
                continue;
            if (other->offset >= offset + block->bytes)
                break;
            if (other->offset + other->bytes > offset)
                offset = other->offset + other->bytes;
        }
        block->offset = offset;
        int at = i;
        while (at > 0 && placed[at - 1]->offset > offset) {
            placed[at] = placed[at - 1];
            at--;
        }
        placed[at] = block;
        if (offset + block->bytes > tape->memory.arena)
            tape->memory.arena = offset + block->bytes;
    }
}

static void measure(bn_tape *tape, size_t *live, size_t *grads)
{
    bn_tape_memory *m = &tape->memory;
    const int n = tape->n_nodes, end = ticks(tape);
    for (int b = 0; b < tape->n_blocks; b++) {
        const tape_block *block = &tape->blocks[b];
        for (int t = block->first; t <= block->last; t++) {
            live[t] += block->bytes;
            if (block->role == BLOCK_GRAD)
                grads[t] += block->bytes;
        }
        if (block->role == BLOCK_SCRATCH && block->bytes > m->scratch)
            m->scratch = block->bytes;
        if (block->role != BLOCK_VALUE || block->first >= n || block->last < n)
            continue;
        bn_op op = tape->nodes[tape->values[block->owner].producer].op;
        size_t *role = op == BN_OP_ACT_QUANT      ? &m->saved_codes
                       : op == BN_OP_WEIGHT_QUANT ? &m->saved_packed
                                                  : &m->saved_float;
        *role += block->bytes;
    }
    for (int t = 0; t < end; t++) {
        if (live[t] > m->peak)
            m->peak = live[t];
        if (grads[t] > m->gradients)
            m->gradients = grads[t];
    }
}

bn_status bn_tape_plan(bn_tape *tape, bn_value target)
{
    BN_TRY(bn_tape_status(tape));
    if (tape->planned)
        return bn_error(BN_FAIL, "the tape is planned already");
    tape->planned = true;
    tape->target = target;

    size_t n = (size_t)tape->n_nodes, v = (size_t)tape->n_values, blocks = 2 * v + 2 * n;
    bn_status status = BN_OK;
    bool *written = calloc(v + 1, sizeof *written);
    tape_block **map = calloc(2 * v + blocks + 1, sizeof *map);
    size_t *live = calloc(4 * n + 1, sizeof *live);
    tape->shares_dout = calloc(n + 1, 1);
    tape->accumulates = calloc(n + 1, 1);
    tape->blocks = calloc(blocks + 1, sizeof *tape->blocks);
    tape->calls = calloc(n + 1, sizeof *tape->calls);
    if (!written || !map || !live || !tape->shares_dout || !tape->accumulates || !tape->blocks ||
        !tape->calls) {
        status = bn_error_nomem("the memory plan", blocks * sizeof *tape->blocks);
        goto out;
    }
    share_memory_of_views(tape);
    if (target != BN_NO_VALUE) {
        BN_TRY_OUT(mark_differentiated(tape));
        share_gradients(tape);
        if (tape->values[root_of(tape, target)].is_leaf) {
            status = bn_error(BN_FAIL, "the target is a parameter itself");
            goto out;
        }
        choose_accumulation(tape, written);
    }
    value_blocks(tape, map);
    if (target != BN_NO_VALUE)
        grad_blocks(tape, map + v);
    scratch_blocks(tape);
    place(tape, map + 2 * v);
    measure(tape, live, live + 2 * n);
out:
    free(written);
    free(map);
    free(live);
    return status;
}

/* ---- memory ------------------------------------------------------------- */

static void bind_operands(bn_tape *tape, int i)
{
    const bn_tape_node *node = &tape->nodes[i];
    const bn_op_info *info = &bn_op_table[node->op];
    bn_op_call *forward = &tape->calls[i].forward, *backward = &tape->calls[i].backward;
    bn_tensor scratch[2] = {forward->scratch, backward->scratch};
    *forward = *backward = tape_shape_call(tape, i);
    forward->scratch = scratch[0];
    backward->scratch = scratch[1];
    if (!node->differentiated)
        return;
    for (int k = 0; k < node->n_in; k++) {
        if (!(info->keeps >> k & 1u))
            backward->in[k].buffer = NULL;
        if (!tape_wants_grad(tape, node, k) || (tape->shares_dout[i] >> k & 1u))
            continue;
        backward->din[k] = tape->values[node->in[k]].grad;
        backward->accumulate[k] = tape->accumulates[i] >> k & 1u;
    }
    for (int k = 0; k < info->n_out; k++)
        if (!(info->keeps & ((unsigned)BN_O0 << k)))
            backward->out[k].buffer = NULL;
    backward->dout = tape->values[node->out[0]].grad;
}

bn_status bn_tape_bind(bn_tape *tape, const bn_buffer *arena)
{
    if (!tape->planned)
        return bn_error(BN_FAIL, "the tape has no plan yet (bn_tape_plan)");
    if (arena->bytes < tape->memory.arena)
        return bn_error(BN_FAIL, "the arena has %zu bytes, the plan needs %zu", arena->bytes,
                        tape->memory.arena);
    for (int b = 0; b < tape->n_blocks; b++) {
        const tape_block *block = &tape->blocks[b];
        tape_value *value = &tape->values[block->owner];
        if (block->role == BLOCK_VALUE) {
            value->tensor = bn_tensor_at(value->tensor, arena, block->offset);
        } else if (block->role == BLOCK_GRAD) {
            value->grad = value->tensor;
            value->grad.dtype = tape->backend->real;
            value->grad = bn_tensor_at(value->grad, arena, block->offset);
        } else {
            tape_calls *calls = &tape->calls[block->owner / 2];
            bn_op_call *call = block->owner % 2 ? &calls->backward : &calls->forward;
            call->scratch =
                bn_tensor_at(bn_tensor_1d(BN_U8, (int64_t)block->bytes), arena, block->offset);
        }
    }
    for (int v = 0; v < tape->n_values; v++) {
        tape_value *value = &tape->values[v];
        const tape_value *memory = &tape->values[value->memory_of];
        if (value->memory_of != v)
            value->tensor =
                bn_tensor_at(value->tensor, memory->tensor.buffer, memory->tensor.offset);
        bn_value root = root_of(tape, v);
        if (value->has_grad && root != v) {
            const bn_tensor *grad = &tape->values[root].grad;
            value->grad = value->tensor;
            value->grad.dtype = tape->backend->real;
            value->grad = bn_tensor_at(value->grad, grad->buffer, grad->offset);
        }
    }
    for (int i = 0; i < tape->n_nodes; i++)
        bind_operands(tape, i);
    tape->bound = true;
    return BN_OK;
}
