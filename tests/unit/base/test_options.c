/* The command line table. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"

struct args {
    const char *config, *extra, *device;
    bool quiet;
    int64_t steps;
    uint64_t seed;
    double temp;
    bn_strings set;
};

static const bn_option options[] = {
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "say less"},
    {"device", 0, "NAME", BN_OPT_STRING, offsetof(struct args, device), "where to run"},
    {"steps", 'n', "N", BN_OPT_I64, offsetof(struct args, steps), "stop after N steps"},
    {"seed", 0, "N", BN_OPT_U64, offsetof(struct args, seed), "seed of the run"},
    {"temp", 0, "T", BN_OPT_F64, offsetof(struct args, temp), "temperature"},
    {"set", 's', "KEY=VALUE", BN_OPT_LIST, offsetof(struct args, set), "change one key"},
    {0}};
static const bn_positional positionals[] = {
    {"CONFIG", BN_POS_ONE, offsetof(struct args, config), "configuration file"},
    {"EXTRA", BN_POS_OPTIONAL, offsetof(struct args, extra), "another file"},
    {0}};
static const bn_program program = {"prog", "Does things.", options, positionals, "More."};

static struct args args;
static bn_options given;

/* Parses words up to NULL. */
static bn_status parse(const bn_program *p, const char *const *words)
{
    static char memory[16][64]; /* string values are borrowed from argv */
    char *argv[16] = {memory[0]};
    int argc = 1;
    for (; words[argc - 1]; argc++) {
        snprintf(memory[argc], sizeof memory[argc], "%s", words[argc - 1]);
        argv[argc] = memory[argc];
    }
    bn_strings_clear(&args.set);
    args = (struct args){.steps = -7, .device = "auto"};
    return bn_options_parse(p, argc, argv, &args, &given);
}
#define PARSE(...) parse(&program, (const char *const[]){__VA_ARGS__, NULL})

static int clear(void **state)
{
    (void)state;
    bn_strings_clear(&args.set);
    return 0;
}

static void test_all_forms(void **state)
{
    (void)state;
    assert_ok(PARSE("a.json", "--quiet", "--device", "cpu", "-n", "5",
                    "--seed=18446744073709551615", "--temp=-0.5", "-sx=1", "--set", "y=2"));
    assert_string_equal(args.config, "a.json");
    assert_null(args.extra);
    assert_true(args.quiet);
    assert_string_equal(args.device, "cpu");
    assert_int_equal(args.steps, 5);
    assert_true(args.seed == UINT64_MAX);
    assert_true(args.temp == -0.5);
    assert_int_equal(args.set.count, 2);
    assert_string_equal(args.set.items[0], "x=1");
    assert_string_equal(args.set.items[1], "y=2");
    assert_true(bn_options_given(&program, &given, "steps"));
    assert_true(bn_options_given(&program, &given, "quiet"));
}

static void test_defaults_stay(void **state)
{
    (void)state;
    assert_ok(PARSE("a.json", "b.json"));
    assert_string_equal(args.extra, "b.json");
    assert_int_equal(args.steps, -7);
    assert_string_equal(args.device, "auto");
    assert_false(bn_options_given(&program, &given, "steps"));
    assert_false(bn_options_given(&program, &given, "nonsense"));
}

static void test_dashes(void **state)
{
    (void)state;
    assert_ok(PARSE("--device", "--", "--", "--quiet"));
    assert_string_equal(args.device, "--");
    assert_string_equal(args.config, "--quiet");
    assert_false(args.quiet);
    assert_ok(PARSE("-"));
    assert_string_equal(args.config, "-");
    assert_ok(PARSE("a", "--steps", "-3"));
    assert_int_equal(args.steps, -3);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *words[4];
        const char *message;
    } cases[] = {
        {{"a", "--step", "5"}, "unknown option --step; did you mean --steps?"},
        {{"a", "--hlep"}, "unknown option --hlep; did you mean --help?"},
        {{"a", "--zzzzzz=1"}, "unknown option --zzzzzz (see --help)"},
        {{"a", "-z"}, "unknown option -z (see --help)"},
        {{"a", "--steps", "5x"}, "--steps: expected a whole number, found '5x'"},
        {{"a", "--steps="}, "--steps: expected a whole number, found ''"},
        {{"a", "--seed", "-1"}, "--seed: expected a whole number of at least 0, found '-1'"},
        {{"a", "--temp", "warm"}, "--temp: expected a number, found 'warm'"},
        {{"a", "--temp", "nan"}, "--temp: expected a number, found 'nan'"},
        {{"a", "--steps"}, "--steps needs a value: --steps N"},
        {{"a", "--quiet=yes"}, "--quiet takes no value, found 'yes'"},
        {{"a", "-qn"}, "--quiet takes no value, found 'n'"},
        {{"a", "b", "c"}, "unexpected argument 'c' (see --help)"},
        {{"--quiet"}, "missing argument CONFIG: configuration file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(&program, cases[i].words), BN_USAGE);
        assert_string_equal(bn_error_text(), cases[i].message);
    }
}

static void test_help_and_version(void **state)
{
    (void)state;
    assert_ok(PARSE("--help"));
    assert_true(given.help);
    assert_ok(PARSE("-h"));
    assert_true(given.help);
    assert_ok(PARSE("--quiet", "--version"));
    assert_true(given.version && !given.help);
    char *text;
    assert_ok(bn_options_help(&program, &text));
    assert_string_equal(text, "Usage: prog [options] CONFIG [EXTRA]\n"
                              "Does things.\n"
                              "\n"
                              "  CONFIG                      configuration file\n"
                              "  EXTRA                       another file\n"
                              "\n"
                              "Options:\n"
                              "  -q, --quiet                 say less\n"
                              "      --device NAME           where to run\n"
                              "  -n, --steps N               stop after N steps\n"
                              "      --seed N                seed of the run\n"
                              "      --temp T                temperature\n"
                              "  -s, --set KEY=VALUE         change one key\n"
                              "  -h, --help                  show this text\n"
                              "      --version               show version and build\n"
                              "\n"
                              "More.\n");
    free(text);
}

static void test_many_positionals(void **state)
{
    (void)state;
    static const bn_positional many[] = {
        {"FILE", BN_POS_MANY, offsetof(struct args, set), "files to read"}, {0}};
    static const bn_program reader = {"reader", "Reads.", NULL, many, NULL};
    assert_ok(parse(&reader, (const char *const[]){"a", "b", "c", NULL}));
    assert_int_equal(args.set.count, 3);
    assert_string_equal(args.set.items[2], "c");
    assert_int_equal(parse(&reader, (const char *const[]){NULL}), BN_USAGE);
    assert_string_equal(bn_error_text(), "missing argument FILE: files to read");
    assert_int_equal(parse(&reader, (const char *const[]){"--set", NULL}), BN_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_forms),        cmocka_unit_test(test_defaults_stay),
        cmocka_unit_test(test_dashes),           cmocka_unit_test(test_errors),
        cmocka_unit_test(test_help_and_version), cmocka_unit_test(test_many_positionals),
    };
    return cmocka_run_group_tests(tests, NULL, clear);
}
