#include "base/status.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_SIZE = 1024 };

static _Thread_local char error_text[TEXT_SIZE];

/* Names and values in messages come from files, logs from drivers: what would
 * break the line is a blank, what could steer a terminal a '?'. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if (*text == '\n' || *text == '\r' || *text == '\t')
            *text = ' ';
        else if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

bn_status bn_error(bn_status status, const char *fmt, ...)
{
    char text[TEXT_SIZE]; /* an argument may be the old text itself */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    make_printable(text);
    memcpy(error_text, text, sizeof text);
    return status;
}

bn_status bn_error_in(bn_status status, const char *context)
{
    if (status == BN_OK)
        return BN_OK;
    const size_t length = strlen(context);
    if (strncmp(error_text, context, length) == 0 && error_text[length] == ':')
        return status; /* whoever found the error named it already */
    return bn_error(status, "%s: %s", context, error_text);
}

bn_status bn_error_nomem(const char *what, unsigned long long bytes)
{
    return bn_error(BN_FAIL, "out of memory: %llu bytes for %s", bytes, what);
}

const char *bn_error_text(void)
{
    return error_text;
}

void bn_error_clear(void)
{
    error_text[0] = '\0';
}
