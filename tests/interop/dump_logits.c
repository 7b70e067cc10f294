/* dump_logits MODEL IDS TIME OUT [TRACE]: the logits of rows of TIME tokens
 * (int32, as many whole rows as the file IDS holds) as float32 [rows, TIME,
 * vocabulary], for comparison with another implementation.
 *
 * TRACE gets the result of every kernel too, row of tokens after row of tokens
 * and in the order of the graph: 32 bytes with the op's name and, as text, its
 * number of elements and the size of one ("rmsnorm 16384 4", then spaces), and
 * the elements, int8 codes or float32. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cpu/cpu.h"
#include "tools/tool.h"
#include "tools/verify.h"

struct args {
    const char *model, *ids, *time, *output, *trace;
};

static const bn_positional positionals[] = {
    {"MODEL", BN_POS_ONE, offsetof(struct args, model), "model file"},
    {"IDS", BN_POS_ONE, offsetof(struct args, ids), "tokens, int32"},
    {"TIME", BN_POS_ONE, offsetof(struct args, time), "tokens of a row"},
    {"OUT", BN_POS_ONE, offsetof(struct args, output), "logits, float32"},
    {"TRACE", BN_POS_OPTIONAL, offsetof(struct args, trace), "results of all kernels"},
    {0}};

static const bn_program program = {"dump_logits", "Writes logits.", NULL, positionals, NULL};

typedef struct trace {
    bn_file *file; /* NULL: none is wanted */
    bn_status status;
} trace;

static void write_result(void *arg, const bn_tape *tape, int index, bool backward)
{
    trace *t = arg;
    char head[32];
    const bn_tape_node *node = bn_tape_node_at(tape, index);
    const bn_tensor *y = bn_tape_tensor(tape, node->out[0]);
    if (backward || !t->file || t->status != BN_OK || (bn_op_table[node->op].traits & BN_VIEW))
        return;
    memset(head, ' ', sizeof head);
    const int length = snprintf(head, sizeof head, "%s %lld %zu", bn_op_table[node->op].name,
                                (long long)bn_tensor_numel(y), bn_dtype_size(y->dtype));
    head[length] = ' ';
    t->status = bn_file_write(t->file, head, sizeof head);
    if (t->status == BN_OK)
        t->status = bn_file_write(t->file, bn_tensor_data(y), bn_tensor_bytes(y));
}

static bn_status dump(const bn_model *model, const int32_t *ids, int64_t rows, int64_t time,
                      bn_file *out, bn_file *trace_file)
{
    trace t = {trace_file, BN_OK};
    for (int64_t i = 0; i < rows; i++) {
        bn_probe probe;
        BN_TRY(bn_probe_watch(model, ids + i * time, time, write_result, &t, &probe));
        bn_status status =
            bn_file_write(out, probe.logits, (size_t)probe.count * sizeof *probe.logits);
        bn_probe_clear(&probe);
        BN_TRY(status);
        BN_TRY(t.status);
    }
    return BN_OK;
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    const bn_tool_where where = {.device = "cpu"}; /* whose memory write_result() reads */
    bn_tool_model model = {0};
    bn_map ids = {0};
    bn_file *out = NULL, *trace_file = NULL;
    int64_t time;
    bn_status status = BN_OK;
    if (!bn_parse_i64(args->time, &time) || time < 1)
        return bn_error(BN_USAGE, "TIME %s: expected a number above 0", args->time);
    BN_TRY_OUT(bn_map_open(args->ids, &ids));
    BN_TRY_OUT(bn_tool_open(args->model, &where, true, &model));
    BN_TRY_OUT(bn_file_create(args->output, &out));
    if (args->trace)
        BN_TRY_OUT(bn_file_create(args->trace, &trace_file));
    status = dump(model.loaded.model, (const int32_t *)(const void *)ids.data,
                  (int64_t)(ids.size / sizeof(int32_t)) / time, time, out, trace_file);
out:
    if (bn_file_close(out) != BN_OK && status == BN_OK)
        status = BN_IO;
    if (bn_file_close(trace_file) != BN_OK && status == BN_OK)
        status = BN_IO;
    bn_tool_close(&model);
    bn_map_close(&ids);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {0};
    return bn_tool_main(&program, run, &args, argc, argv);
}
