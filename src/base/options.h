/* options.h - one table per program describes its command line.
 *
 * Values go into the program's own struct at the rows' offsets; put the
 * defaults there before parsing. Accepted: --name value, --name=value, -n
 * value, -nvalue, flags --name and -n, and "--" before positionals that start
 * with '-'. A lone "-" is a positional. --help/-h and --version stop the
 * parsing and are reported, not acted on. A repeated option overwrites, except
 * a list, which grows. Nothing here prints.
 *
 *   struct args { const char *config; int64_t steps; bn_strings set; };
 *   static const bn_option options[] = {
 *       {"max-steps", 0, "N", BN_OPT_I64, offsetof(struct args, steps), "stop after N steps"},
 *       {"set", 's', "KEY=VALUE", BN_OPT_LIST, offsetof(struct args, set), "change one key"},
 *       {0}};
 *   static const bn_positional positionals[] = {
 *       {"CONFIG", BN_POS_ONE, offsetof(struct args, config), "configuration file"}, {0}};
 *   static const bn_program program = {"bitnet-train", "Trains a model.", options, positionals,
 *                                      NULL};
 */
#ifndef BN_BASE_OPTIONS_H
#define BN_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

typedef enum bn_option_type {
    BN_OPT_FLAG,   /* bool */
    BN_OPT_STRING, /* const char *, borrowed from argv */
    BN_OPT_I64,    /* int64_t */
    BN_OPT_U64,    /* uint64_t */
    BN_OPT_F64,    /* double */
    BN_OPT_SIZE,   /* uint64_t: bytes, as bn_parse_size() */
    BN_OPT_LIST,   /* bn_strings; the program clears it */
} bn_option_type;

typedef struct bn_option {
    const char *name;    /* without dashes; NULL ends the table */
    char letter;         /* 0: none */
    const char *metavar; /* of the argument; NULL for a flag */
    bn_option_type type;
    size_t offset;
    const char *help;
} bn_option;

typedef enum bn_positional_count {
    BN_POS_ONE,      /* const char * */
    BN_POS_OPTIONAL, /* const char *, untouched if absent; after BN_POS_ONE */
    BN_POS_MANY,     /* bn_strings, one or more; last */
} bn_positional_count;

typedef struct bn_positional {
    const char *name; /* NULL ends the table */
    bn_positional_count count;
    size_t offset;
    const char *help;
} bn_positional;

typedef struct bn_program {
    const char *name, *summary;
    const bn_option *options;         /* at most 64; may be NULL */
    const bn_positional *positionals; /* may be NULL */
    const char *more;                 /* shown below the options; may be NULL */
} bn_program;

typedef struct bn_options {
    bool help, version; /* asked for: positionals were not checked */
    uint64_t given;     /* bit i: row i of the table was given */
} bn_options;

/* `values` is the struct of the offsets. BN_USAGE names option and value. */
bn_status bn_options_parse(const bn_program *program, int argc, char *const *argv, void *values,
                           bn_options *out) BN_MUST_CHECK;

/* Whether --name was on the command line. */
bool bn_options_given(const bn_program *program, const bn_options *options, const char *name);

/* The --help text. The caller frees. */
bn_status bn_options_help(const bn_program *program, char **text) BN_MUST_CHECK;

#endif
