#include "base/json_syntax.h"

#include <stdbool.h>
#include <string.h>

enum { MAX_DEPTH = 500 }; /* of nested objects and arrays; cJSON stops at 1000 */

typedef struct scanner {
    const char *text;
    size_t size, at;
    int depth;
    const char *problem; /* first problem, found at `at` */
} scanner;

/* The next character, or -1 at the end. */
static int peek(const scanner *s)
{
    return s->at < s->size ? (unsigned char)s->text[s->at] : -1;
}

static bool problem(scanner *s, const char *what)
{
    s->problem = peek(s) < 0 ? "JSON text ends too early" : what;
    return false;
}

static bool take(scanner *s, char c)
{
    if (peek(s) != (unsigned char)c)
        return false;
    s->at++;
    return true;
}

static void blanks(scanner *s)
{
    while (take(s, ' ') || take(s, '\t') || take(s, '\r') || take(s, '\n'))
        ;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool digits(scanner *s)
{
    if (!is_digit(peek(s)))
        return problem(s, "expected a digit");
    while (is_digit(peek(s)))
        s->at++;
    return true;
}

static bool number(scanner *s)
{
    take(s, '-');
    if (!take(s, '0') && !digits(s))
        return false;
    if (take(s, '.') && !digits(s))
        return false;
    if (!take(s, 'e') && !take(s, 'E'))
        return true;
    if (!take(s, '+'))
        take(s, '-');
    return digits(s);
}

static bool escape(scanner *s)
{
    int c = peek(s);
    if (c <= 0 || !strchr("\"\\/bfnrtu", c))
        return problem(s, "unknown escape in a string");
    s->at++;
    for (int i = 0; c == 'u' && i < 4; i++, s->at++)
        if (peek(s) <= 0 || !strchr("0123456789abcdefABCDEF", peek(s)))
            return problem(s, "expected four hexadecimal digits after \\u");
    return true;
}

static bool string(scanner *s)
{
    if (!take(s, '"'))
        return problem(s, "expected a string in double quotes");
    while (!take(s, '"')) {
        if (peek(s) < ' ')
            return problem(s, "a line break or control character in a string");
        if (take(s, '\\')) {
            if (!escape(s))
                return false;
        } else {
            s->at++;
        }
    }
    return true;
}

static bool literal(scanner *s, const char *word)
{
    for (; *word; word++)
        if (!take(s, *word))
            return problem(s, "expected a value");
    return true;
}

static bool value(scanner *s);

/* Members of an object or elements of an array, after the opening bracket. */
static bool members(scanner *s, bool object)
{
    char close = object ? '}' : ']';
    blanks(s);
    if (take(s, close))
        return true;
    do {
        blanks(s);
        if (object) {
            if (!string(s))
                return false;
            blanks(s);
            if (!take(s, ':'))
                return problem(s, "expected ':'");
        }
        if (!value(s))
            return false;
    } while (take(s, ','));
    if (take(s, close))
        return true;
    return problem(s, object ? "expected ',' or '}'" : "expected ',' or ']'");
}

static bool nested(scanner *s, bool object)
{
    if (s->depth == MAX_DEPTH)
        return problem(s, "nested too deeply");
    s->at++;
    s->depth++;
    bool good = members(s, object);
    s->depth--;
    return good;
}

static bool one_value(scanner *s)
{
    switch (peek(s)) {
    case '{':
        return nested(s, true);
    case '[':
        return nested(s, false);
    case '"':
        return string(s);
    case 't':
        return literal(s, "true");
    case 'f':
        return literal(s, "false");
    case 'n':
        return literal(s, "null");
    default:
        return peek(s) == '-' || is_digit(peek(s)) ? number(s) : problem(s, "expected a value");
    }
}

/* A value with the blanks around it. */
static bool value(scanner *s)
{
    blanks(s);
    if (!one_value(s))
        return false;
    blanks(s);
    return true;
}

const char *bn_json_syntax_error(const char *text, size_t size, size_t *offset)
{
    scanner s = {.text = text, .size = size};
    if (value(&s) && s.at < size)
        problem(&s, "text after the end of the JSON value");
    *offset = s.at;
    return s.problem;
}
