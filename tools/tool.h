/* tool.h - the frame of every program here: command line, errors, model.
 *
 * A program is an options table, a struct of arguments and a run function; what
 * it returns is the exit code. stdout carries results, stderr everything else.
 */
#ifndef BN_TOOLS_TOOL_H
#define BN_TOOLS_TOOL_H

#include "model/adapter.h"
#include "model/load.h"
#include "tools/tool_main.h"

/* bn_tool_main_with() for a program that computes: the version says on what. */
int bn_tool_main(const bn_program *program, bn_tool_run run, void *args, int argc, char **argv);

/* Where a program computes, and whether it trusts its model file; part of an
 * arguments struct. */
typedef struct bn_tool_where {
    const char *device;
    int64_t threads;
    uint64_t max_memory; /* 0: no limit */
    bool untrusted;
} bn_tool_where;

#define BN_TOOL_WHERE_DEFAULT                                                                      \
    {                                                                                              \
        .device = "auto", .threads = 0                                                             \
    }

/* Option rows for a bn_tool_where member named `where`. */
#define BN_TOOL_UNTRUSTED_OPTION(type, member)                                                     \
    {                                                                                              \
        "untrusted", 0, NULL, BN_OPT_FLAG, offsetof(type, member),                                 \
            "the file comes from a stranger: read it in a process of its own, with limits"         \
    }
#define BN_TOOL_WHERE_OPTIONS(type)                                                                \
    {"device",                                                                                     \
     0,                                                                                            \
     "NAME",                                                                                       \
     BN_OPT_STRING,                                                                                \
     offsetof(type, where.device),                                                                 \
     "auto, cpu or opencl[:N] (auto)"},                                                            \
        {"threads",                                                                                \
         0,                                                                                        \
         "N",                                                                                      \
         BN_OPT_I64,                                                                               \
         offsetof(type, where.threads),                                                            \
         "CPU threads; 0 takes all (0); results do not depend on it"},                             \
        {"max-memory",                                                                             \
         0,                                                                                        \
         "SIZE",                                                                                   \
         BN_OPT_SIZE,                                                                              \
         offsetof(type, where.max_memory),                                                         \
         "most memory for weights, cache and scratch, as in 512M or 1.5G"},                        \
        BN_TOOL_UNTRUSTED_OPTION(type, where.untrusted)

/* -o FILE: BN_USAGE where it is missing or a folder. */
bn_status bn_tool_check_output(const char *output) BN_MUST_CHECK;

/* --untrusted: from now on model files are read as bn_h5_distrust() says. */
void bn_tool_distrust(bool untrusted);

/* An open model and the device it is on. */
typedef struct bn_tool_model {
    bn_backend *backend;
    bn_loaded loaded;
    bn_adapter_base base;  /* of bn_tool_open_base() */
    bn_adapter **adapters; /* in use */
    int n_adapters;
} bn_tool_model;

/* Opens device and MODEL; says on stderr which damaged checkpoints were passed
 * over. `pack` as in bn_loaded_open(). On failure *out is cleared. */
bn_status bn_tool_open(const char *path, const bn_tool_where *where, bool pack,
                       bn_tool_model *out) BN_MUST_CHECK;
/* MODEL as a base, with its identity, packed and not arranged. */
bn_status bn_tool_open_base(const char *path, const bn_tool_where *where,
                            bn_tool_model *out) BN_MUST_CHECK;

/* Opens an adapter over a base (bn_tool_open_base); not in use yet. */
bn_status bn_tool_add_adapter(const char *path, bn_tool_model *model) BN_MUST_CHECK;

/* bn_tool_open() to run MODEL, with the sum of these adapters in use: each is
 * PATH or PATH:FACTOR. */
bn_status bn_tool_open_adapted(const char *path, const bn_tool_where *where,
                               const bn_strings *adapters, bn_tool_model *out) BN_MUST_CHECK;

/* Option row for a bn_strings member that takes adapters. */
#define BN_TOOL_ADAPTER_OPTION(type, member)                                                       \
    {                                                                                              \
        "adapter", 0, "PATH[:X]", BN_OPT_LIST, offsetof(type, member),                             \
            "adapter over MODEL, times X: output folder, checkpoint, or folder of PEFT; of "       \
            "several the sum"                                                                      \
    }

void bn_tool_close(bn_tool_model *model); /* {0} is fine */

/* Option row for a member that takes the word of a KV cache's type. */
#define BN_TOOL_CACHE_OPTION(type, member)                                                         \
    {                                                                                              \
        "cache-type", 0, "TYPE", BN_OPT_STRING, offsetof(type, member),                            \
            "elements of the KV cache: float32, or in a little over a quarter of the memory "      \
            "int8, a sixth int4 (float32)"                                                         \
    }
/* That word as the bits that model/kv_cache.h takes; BN_USAGE for another one. */
bn_status bn_tool_cache_bits(const char *type, int *bits) BN_MUST_CHECK;

/* "bitnet-qat 0.1.0" */
extern const char bn_tool_producer[];

#endif
