#include "tools/tool_main.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bn_status bn_tool_print(const char *text)
{
    if (fputs(text, stdout) == EOF || fflush(stdout) == EOF)
        return bn_error(BN_IO, "standard output: %s", strerror(errno));
    return BN_OK;
}

static bn_status print_and_free(char *text)
{
    const bn_status status = bn_tool_print(text);
    free(text);
    return status;
}

bn_status bn_tool_print_text(bn_text *text)
{
    char *line = NULL;
    BN_TRY(bn_text_take(text, &line));
    return print_and_free(line);
}

bn_status bn_tool_print_json(bn_json *json)
{
    char *text = NULL;
    BN_TRY(bn_json_take(json, &text));
    return print_and_free(text);
}

static bn_status print_help(const bn_program *program)
{
    char *text = NULL;
    BN_TRY(bn_options_help(program, &text));
    return print_and_free(text);
}

static bn_status print_version(const bn_program *program, bn_status (*details)(bn_text *version))
{
    bn_text text = {0};
    bn_text_addf(&text, "%s %s\n", program->name, BITNET_VERSION);
    bn_status status = details ? details(&text) : BN_OK;
    if (status == BN_OK)
        return bn_tool_print_text(&text);
    bn_text_clear(&text);
    return status;
}

int bn_tool_main_with(const bn_program *program, bn_status (*details)(bn_text *version),
                      bn_tool_run run, void *args, int argc, char **argv)
{
    bn_options options;
    bn_status status = bn_options_parse(program, argc, argv, args, &options);
    if (status == BN_USAGE) {
        fprintf(stderr, "%s: %s (see --help)\n", program->name, bn_error_text());
        return BN_USAGE;
    }
    if (status == BN_OK)
        status = options.help      ? print_help(program)
                 : options.version ? print_version(program, details)
                                   : run(args);
    if (status != BN_OK)
        fprintf(stderr, "%s: %s\n", program->name, bn_error_text());
    return (int)status;
}
