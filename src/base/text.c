#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/* Room for `more` bytes and the NUL. */
static bool reserve(bn_text *text, size_t more)
{
    if (text->failed)
        return false;
    size_t need;
    if (!bn_add_size(text->size, more, &need) || !bn_add_size(need, 1, &need)) {
        text->failed = true;
        return false;
    }
    if (need <= text->capacity)
        return true;
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity < need && bn_mul_size(capacity, 2, &capacity))
        ;
    char *data = capacity >= need ? realloc(text->data, capacity) : NULL;
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void bn_text_add_bytes(bn_text *text, const void *data, size_t size)
{
    if (!reserve(text, size))
        return;
    if (size)
        memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
}

void bn_text_add(bn_text *text, const char *string)
{
    bn_text_add_bytes(text, string, strlen(string));
}

void bn_text_addv(bn_text *text, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int size = vsnprintf(NULL, 0, fmt, ap);
    if (size < 0)
        text->failed = true;
    else if (reserve(text, (size_t)size)) {
        vsnprintf(text->data + text->size, (size_t)size + 1, fmt, again);
        text->size += (size_t)size;
    }
    va_end(again);
}

void bn_text_addf(bn_text *text, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bn_text_addv(text, fmt, ap);
    va_end(ap);
}

bn_status bn_text_take(bn_text *text, char **out)
{
    bn_text_add_bytes(text, "", 0); /* "" rather than NULL */
    *out = NULL;
    if (text->failed) {
        size_t size = text->size;
        bn_text_clear(text);
        return bn_error_nomem("text", size);
    }
    *out = text->data;
    *text = (bn_text){0};
    return BN_OK;
}

void bn_text_clear(bn_text *text)
{
    free(text->data);
    *text = (bn_text){0};
}

bn_status bn_strings_add_bytes(bn_strings *list, const char *item, size_t size)
{
    char *copy = malloc(size + 1);
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (items)
        list->items = items;
    if (!copy || !items) {
        free(copy);
        return bn_error_nomem("list of strings", size);
    }
    if (size)
        memcpy(copy, item, size);
    copy[size] = '\0';
    items[list->count++] = copy;
    return BN_OK;
}

bn_status bn_strings_add(bn_strings *list, const char *item)
{
    return bn_strings_add_bytes(list, item, strlen(item));
}

bn_status bn_strings_copy(const bn_strings *from, bn_strings *to)
{
    *to = (bn_strings){0};
    for (size_t i = 0; i < from->count; i++) {
        bn_status status = bn_strings_add(to, from->items[i]);
        if (status != BN_OK) {
            bn_strings_clear(to);
            return status;
        }
    }
    return BN_OK;
}

bool bn_strings_equal(const bn_strings *a, const bn_strings *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void bn_strings_sort(bn_strings *list)
{
    if (list->count > 1)
        qsort(list->items, list->count, sizeof *list->items, compare_strings);
}

void bn_strings_clear(bn_strings *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (bn_strings){0};
}

char *bn_strdup(const char *string)
{
    char *copy = strdup(string);
    if (!copy)
        (void)bn_error_nomem("string", strlen(string) + 1);
    return copy;
}

char *bn_format(const char *fmt, ...)
{
    bn_text text = {0};
    char *out;
    va_list ap;
    va_start(ap, fmt);
    bn_text_addv(&text, fmt, ap);
    va_end(ap);
    return bn_text_take(&text, &out) == BN_OK ? out : NULL;
}

static char plain(char c)
{
    return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Damerau's distance in its restricted form (optimal string alignment), three
 * rows at a time. Longer words than any key are cut. */
size_t bn_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t rows[3][LONGEST + 1];
    size_t na = smaller(strlen(a), LONGEST), nb = smaller(strlen(b), LONGEST);
    for (size_t j = 0; j <= nb; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            char x = plain(a[i - 1]), y = plain(b[j - 1]);
            size_t edit = above[j - 1] + (x != y);
            size_t best = smaller(edit, smaller(above[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && x == plain(b[j - 2]) && y == plain(a[i - 2]))
                best = smaller(best, two_above[j - 2] + 1);
            now[j] = best;
        }
    }
    return rows[na % 3][nb];
}

void bn_nearest_offer(bn_nearest *nearest, const char *candidate)
{
    size_t distance = bn_edit_distance(nearest->wanted, candidate);
    size_t a = strlen(nearest->wanted), b = strlen(candidate);
    size_t longer = a > b ? a : b;
    if (distance >= longer || distance > (longer < 6 ? 1 : longer / 3))
        return;
    if (!nearest->best || distance < nearest->distance) {
        nearest->best = candidate;
        nearest->distance = distance;
    }
}

const char *bn_size_text(uint64_t bytes, char buffer[BN_SIZE_TEXT])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    double value = (double)bytes;
    /* 1023.95 would print as 1024.0 */
    while (value >= (unit ? 1023.95 : 1024.0)) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, BN_SIZE_TEXT, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return buffer;
}

/* strtol and its kin skip leading blanks and accept an empty string. */
static bool starts_number(const char *text)
{
    return *text && !isspace((unsigned char)*text);
}

bool bn_parse_i64(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!starts_number(text) || *end || errno)
        return false;
    *out = value;
    return true;
}

bool bn_parse_u64(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (!starts_number(text) || *text == '-' || *end || errno)
        return false;
    *out = value;
    return true;
}

bool bn_parse_f64(const char *text, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (!starts_number(text) || *end || !isfinite(value))
        return false;
    *out = value;
    return true;
}

bool bn_parse_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    const double number = strtod(text, &end);
    double factor = 1.0;
    if (!starts_number(text) || !isfinite(number))
        return false;
    end += *end == ' ';
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        factor = ldexp(1.0, 10 * (int)(unit - units + 1));
        end += strncmp(end + 1, "iB", 2) == 0 ? 3 : 1;
    } else if (*end == 'B') {
        end++;
    }
    const double value = number * factor;
    if (*end || !(value >= 1.0 && value < 0x1p63))
        return false;
    *bytes = (uint64_t)value;
    return true;
}

const char *bn_number_text(double value, char buffer[BN_NUMBER_TEXT])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buffer, BN_NUMBER_TEXT, "%.*g", digits, value);
        if (strtod(buffer, NULL) == value)
            break;
    }
    return buffer;
}
