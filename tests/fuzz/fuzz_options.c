/* A command line: arguments end at newlines. */
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "fuzz.h"

struct values {
    const char *one, *maybe, *text;
    bn_strings many, list;
    bool flag;
    int64_t i64;
    uint64_t u64;
    double f64;
};

static const bn_option options[] = {
    {"flag", 'f', NULL, BN_OPT_FLAG, offsetof(struct values, flag), "a flag"},
    {"text", 't', "T", BN_OPT_STRING, offsetof(struct values, text), "a text"},
    {"int", 'i', "N", BN_OPT_I64, offsetof(struct values, i64), "a number"},
    {"unsigned", 0, "N", BN_OPT_U64, offsetof(struct values, u64), "a number >= 0"},
    {"real", 'r', "X", BN_OPT_F64, offsetof(struct values, f64), "a real number"},
    {"list", 'l', "L", BN_OPT_LIST, offsetof(struct values, list), "texts"},
    {0}};
static const bn_positional few[] = {
    {"ONE", BN_POS_ONE, offsetof(struct values, one), "one"},
    {"MAYBE", BN_POS_OPTIONAL, offsetof(struct values, maybe), "or none"},
    {0}};
static const bn_positional lots[] = {{"ONE", BN_POS_ONE, offsetof(struct values, one), "one"},
                                     {"MANY", BN_POS_MANY, offsetof(struct values, many), "more"},
                                     {0}};

static void parse(const bn_positional *positionals, int argc, char **argv)
{
    const bn_program program = {"program", "Does things.", options, positionals, NULL};
    struct values values = {0};
    bn_options out;
    if (fuzz_status(bn_options_parse(&program, argc, argv, &values, &out), BN_USAGE)) {
        if (out.given >> 6)
            fuzz_broken("an option that is not in the table");
        if (!out.help && !out.version && !values.one)
            fuzz_broken("a positional is missing");
    }
    bn_strings_clear(&values.many);
    bn_strings_clear(&values.list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { ARGS = 64 };
    char *text = fuzz_string(data, size), *at = text, *name = strdup("program");
    char *argv[ARGS + 2] = {name};
    int argc = 1;
    while (at && argc <= ARGS)
        argv[argc++] = strsep(&at, "\n");
    parse(few, argc, argv);
    parse(lots, argc, argv);
    free(name);
    free(text);
    return 0;
}

void fuzz_seeds(void)
{
    fuzz_seed_text("long", "a\n--flag\n--text\nx\n--int=-5\n--unsigned\n18446744073709551615\n"
                           "--real=1e-3\n--list=a\n--list\nb");
    fuzz_seed_text("short", "-f\n-tx\n-i\n9223372036854775807\n-r0x1p-3\n-la\n-l\nb\na\nb");
    fuzz_seed_text("ends", "--\n-a\n-");
    fuzz_seed_text("help", "--help");
    fuzz_seed_text("version", "--version");
}
