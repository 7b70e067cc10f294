#include "base/options.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 30 };

typedef struct parser {
    const bn_program *program;
    int argc, next; /* argv[next] comes next */
    char *const *argv;
    char *values;
    bn_options *out;
    const bn_positional *positional; /* to fill next; NULL: none left */
} parser;

static const bn_option *find_name(const bn_program *program, const char *name, size_t size)
{
    for (const bn_option *o = program->options; o && o->name; o++)
        if (strlen(o->name) == size && memcmp(o->name, name, size) == 0)
            return o;
    return NULL;
}

static const bn_option *find_letter(const bn_program *program, char letter)
{
    for (const bn_option *o = program->options; o && o->name; o++)
        if (o->letter == letter)
            return o;
    return NULL;
}

static bn_status unknown(const bn_program *program, const char *word, size_t size)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(size < 60 ? size : 60), word);
    bn_nearest nearest = {.wanted = name};
    for (const bn_option *o = program->options; o && o->name; o++)
        bn_nearest_offer(&nearest, o->name);
    bn_nearest_offer(&nearest, "help");
    bn_nearest_offer(&nearest, "version");
    if (nearest.best)
        return bn_error(BN_USAGE, "unknown option --%s; did you mean --%s?", name, nearest.best);
    return bn_error(BN_USAGE, "unknown option --%s (see --help)", name);
}

static bn_status store(parser *p, const bn_option *o, const char *text)
{
    void *value = p->values + o->offset;
    bool good = true;
    const char *expected = "";
    switch (o->type) {
    case BN_OPT_FLAG:
        *(bool *)value = true;
        break;
    case BN_OPT_STRING:
        *(const char **)value = text;
        break;
    case BN_OPT_LIST:
        BN_TRY(bn_strings_add(value, text));
        break;
    case BN_OPT_I64:
        good = bn_parse_i64(text, value);
        expected = "a whole number";
        break;
    case BN_OPT_U64:
        good = bn_parse_u64(text, value);
        expected = "a whole number of at least 0";
        break;
    case BN_OPT_F64:
        good = bn_parse_f64(text, value);
        expected = "a number";
        break;
    case BN_OPT_SIZE:
        good = bn_parse_size(text, value);
        expected = "a size as in 512M or 1.5G";
        break;
    }
    if (!good)
        return bn_error(BN_USAGE, "--%s: expected %s, found '%s'", o->name, expected, text);
    p->out->given |= UINT64_C(1) << (o - p->program->options);
    return BN_OK;
}

/* `attached` is the text after '=' or after the letter, or NULL. */
static bn_status take_option(parser *p, const bn_option *o, const char *attached)
{
    if (o->type == BN_OPT_FLAG) {
        if (attached)
            return bn_error(BN_USAGE, "--%s takes no value, found '%s'", o->name, attached);
        return store(p, o, NULL);
    }
    if (!attached) {
        if (p->next == p->argc)
            return bn_error(BN_USAGE, "--%s needs a value: --%s %s", o->name, o->name, o->metavar);
        attached = p->argv[p->next++];
    }
    return store(p, o, attached);
}

static bn_status take_long(parser *p, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t size = equals ? (size_t)(equals - word) : strlen(word);
    const bn_option *o = find_name(p->program, word, size);
    if (o)
        return take_option(p, o, equals ? equals + 1 : NULL);
    if (strcmp(word, "help") == 0)
        p->out->help = true;
    else if (strcmp(word, "version") == 0)
        p->out->version = true;
    else
        return unknown(p->program, word, size);
    return BN_OK;
}

/* "-n", "-n5"; flags are not bundled. */
static bn_status take_short(parser *p, const char *word)
{
    const bn_option *o = find_letter(p->program, word[0]);
    if (o)
        return take_option(p, o, word[1] ? word + 1 : NULL);
    if (strcmp(word, "h") != 0)
        return bn_error(BN_USAGE, "unknown option -%s (see --help)", word);
    p->out->help = true;
    return BN_OK;
}

static bn_status take_positional(parser *p, const char *word)
{
    const bn_positional *pos = p->positional;
    if (!pos || !pos->name)
        return bn_error(BN_USAGE, "unexpected argument '%s' (see --help)", word);
    p->positional = pos->count == BN_POS_MANY ? pos : pos + 1;
    if (pos->count == BN_POS_MANY)
        return bn_strings_add((bn_strings *)(void *)(p->values + pos->offset), word);
    *(const char **)(void *)(p->values + pos->offset) = word;
    return BN_OK;
}

static bn_status check_positionals(const parser *p)
{
    const bn_positional *pos = p->positional;
    if (!pos || !pos->name || pos->count == BN_POS_OPTIONAL)
        return BN_OK;
    if (pos->count == BN_POS_MANY &&
        ((const bn_strings *)(const void *)(p->values + pos->offset))->count)
        return BN_OK;
    return bn_error(BN_USAGE, "missing argument %s: %s", pos->name, pos->help);
}

bn_status bn_options_parse(const bn_program *program, int argc, char *const *argv, void *values,
                           bn_options *out)
{
    parser p = {.program = program,
                .argc = argc,
                .next = 1,
                .argv = argv,
                .values = values,
                .out = out,
                .positional = program->positionals};
    bool only_positionals = false;
    *out = (bn_options){0};
    while (p.next < argc) {
        const char *word = argv[p.next++];
        if (only_positionals || word[0] != '-' || !word[1])
            BN_TRY(take_positional(&p, word));
        else if (strcmp(word, "--") == 0)
            only_positionals = true;
        else if (word[1] == '-')
            BN_TRY(take_long(&p, word + 2));
        else
            BN_TRY(take_short(&p, word + 1));
        if (out->help || out->version)
            return BN_OK;
    }
    return check_positionals(&p);
}

bool bn_options_given(const bn_program *program, const bn_options *options, const char *name)
{
    const bn_option *o = find_name(program, name, strlen(name));
    return o && (options->given >> (o - program->options) & 1);
}

/* "  left   help", or help on its own line where left is too wide. */
static void help_line(bn_text *text, const char *left, const char *help)
{
    bn_text_addf(text, "  %-*s", HELP_COLUMN - 2, left);
    if (strlen(left) + 4 > HELP_COLUMN)
        bn_text_addf(text, "\n%*s", HELP_COLUMN, "");
    bn_text_addf(text, "%s\n", help);
}

static void help_option(bn_text *text, const bn_option *o)
{
    char left[128], letter[8] = "    ";
    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->metavar ? " " : "",
             o->metavar ? o->metavar : "");
    help_line(text, left, o->help);
}

bn_status bn_options_help(const bn_program *program, char **out)
{
    static const char *const after[] = {
        [BN_POS_ONE] = "", [BN_POS_OPTIONAL] = "]", [BN_POS_MANY] = "..."};
    bn_text text = {0};
    bn_text_addf(&text, "Usage: %s [options]", program->name);
    for (const bn_positional *pos = program->positionals; pos && pos->name; pos++)
        bn_text_addf(&text, " %s%s%s", pos->count == BN_POS_OPTIONAL ? "[" : "", pos->name,
                     after[pos->count]);
    bn_text_addf(&text, "\n%s\n\n", program->summary);
    for (const bn_positional *pos = program->positionals; pos && pos->name; pos++)
        help_line(&text, pos->name, pos->help);
    bn_text_add(&text, "\nOptions:\n");
    for (const bn_option *o = program->options; o && o->name; o++)
        help_option(&text, o);
    help_line(&text, find_letter(program, 'h') ? "    --help" : "-h, --help", "show this text");
    help_line(&text, "    --version", "show version and build");
    if (program->more)
        bn_text_addf(&text, "\n%s\n", program->more);
    return bn_text_take(&text, out);
}
