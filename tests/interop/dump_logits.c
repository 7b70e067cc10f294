/* dump_logits MODEL IDS TIME OUT: the logits of rows of TIME tokens (int32, as
 * many whole rows as the file IDS holds) as float32 [rows, TIME, vocabulary],
 * for comparison with another implementation. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "cpu/cpu.h"
#include "tools/tool.h"
#include "tools/verify.h"

struct args {
    const char *model, *ids, *time, *output;
};

static const bn_positional positionals[] = {
    {"MODEL", BN_POS_ONE, offsetof(struct args, model), "model file"},
    {"IDS", BN_POS_ONE, offsetof(struct args, ids), "tokens, int32"},
    {"TIME", BN_POS_ONE, offsetof(struct args, time), "tokens of a row"},
    {"OUT", BN_POS_ONE, offsetof(struct args, output), "logits, float32"},
    {0}};

static const bn_program program = {"dump_logits", "Writes logits.", NULL, positionals, NULL};

static bn_status dump(const bn_model *model, const int32_t *ids, int64_t rows, int64_t time,
                      bn_file *out)
{
    for (int64_t i = 0; i < rows; i++) {
        bn_probe probe;
        BN_TRY(bn_probe_run(model, ids + i * time, time, &probe));
        bn_status status =
            bn_file_write(out, probe.logits, (size_t)probe.count * sizeof *probe.logits);
        bn_probe_clear(&probe);
        BN_TRY(status);
    }
    return BN_OK;
}

static bn_status run(void *arg)
{
    const struct args *args = arg;
    const bn_tool_where where = BN_TOOL_WHERE_DEFAULT;
    bn_tool_model model = {0};
    bn_map ids = {0};
    bn_file *out = NULL;
    int64_t time;
    bn_status status = BN_OK;
    if (!bn_parse_i64(args->time, &time) || time < 1)
        return bn_error(BN_USAGE, "TIME %s: expected a number above 0", args->time);
    BN_TRY_OUT(bn_map_open(args->ids, &ids));
    BN_TRY_OUT(bn_tool_open(args->model, &where, true, &model));
    BN_TRY_OUT(bn_file_create(args->output, &out));
    status = dump(model.loaded.model, (const int32_t *)(const void *)ids.data,
                  (int64_t)(ids.size / sizeof(int32_t)) / time, time, out);
out:
    if (bn_file_close(out) != BN_OK && status == BN_OK)
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
