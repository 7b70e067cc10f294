/* tool_main.h - the main() of a program: command line, errors, results.
 *
 * Apart from tool.h so that a program that computes nothing is linked to no
 * library that does.
 */
#ifndef BN_TOOLS_TOOL_MAIN_H
#define BN_TOOLS_TOOL_MAIN_H

#include "base/json.h"
#include "base/options.h"
#include "base/text.h"

typedef bn_status (*bn_tool_run)(void *args);

/* A whole main(): parses into `args` (defaults are there already), answers
 * --help and --version, calls run, prints the error if there is one. `details`
 * adds lines to the version; NULL: none. */
int bn_tool_main_with(const bn_program *program, bn_status (*details)(bn_text *version),
                      bn_tool_run run, void *args, int argc, char **argv);

/* BN_IO if stdout cannot take it. The latter two clear what they print. */
bn_status bn_tool_print(const char *text) BN_MUST_CHECK;
bn_status bn_tool_print_text(bn_text *text) BN_MUST_CHECK;
bn_status bn_tool_print_json(bn_json *json) BN_MUST_CHECK;

#endif
