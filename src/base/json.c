#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json_syntax.h"

/* Line and column of a byte, both from 1. */
static void place_of(const char *text, size_t offset, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < offset; i++) {
        (*column)++;
        if (text[i] == '\n') {
            (*line)++;
            *column = 1;
        }
    }
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Fails if two members of one object share a key; sorted, so that a hostile
 * file cannot make this slow. */
static bn_status unique_members(const char *name, const cJSON *object)
{
    bn_status status = BN_OK;
    size_t count = (size_t)cJSON_GetArraySize(object), filled = 0;
    const char **keys = calloc(count + 1, sizeof *keys);
    if (!keys)
        return bn_error_nomem("JSON keys", count * sizeof *keys);
    for (const cJSON *child = object->child; child; child = child->next)
        keys[filled++] = child->string;
    qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 1; i < count && status == BN_OK; i++)
        if (strcmp(keys[i - 1], keys[i]) == 0)
            status = bn_error(BN_BAD_DATA, "%s: key \"%.100s\" is given twice", name, keys[i]);
    free(keys);
    return status;
}

/* The syntax check bounds the nesting, and so this recursion. */
static bn_status check_values(const char *name, const cJSON *value)
{
    if (cJSON_IsNumber(value) && !isfinite(value->valuedouble))
        return bn_error(BN_BAD_DATA, "%s: a number is too large for a double", name);
    if (cJSON_IsObject(value))
        BN_TRY(unique_members(name, value));
    for (const cJSON *child = value->child; child; child = child->next)
        BN_TRY(check_values(name, child));
    return BN_OK;
}

bn_status bn_json_parse(const char *name, const char *text, size_t size, cJSON **out)
{
    *out = NULL;
    size_t offset;
    const char *problem = bn_json_syntax_error(text, size, &offset);
    if (problem) {
        size_t line, column;
        place_of(text, offset, &line, &column);
        return bn_error(BN_BAD_DATA, "%s:%zu:%zu: %s", name, line, column, problem);
    }
    cJSON *value = cJSON_ParseWithLength(text, size);
    if (!value) /* text that is JSON fails only for these */
        return bn_error(BN_BAD_DATA, "%s: a \\u escape that is no character, or out of memory",
                        name);
    bn_status status = check_values(name, value);
    if (status != BN_OK)
        cJSON_Delete(value);
    else
        *out = value;
    return status;
}

bn_status bn_json_read(const char *path, size_t limit, cJSON **out)
{
    char *text;
    size_t size;
    *out = NULL;
    BN_TRY(bn_fs_read(path, limit, &text, &size));
    bn_status status = bn_json_parse(path, text, size, out);
    free(text);
    return status;
}

/* ---- writer ---- */

static bool one_line(const bn_json *json)
{
    return !json->indent || (json->flat_from && json->depth >= json->flat_from);
}

static void new_line(bn_json *json)
{
    bn_text_addf(&json->text, "\n%*s", json->indent * json->depth, "");
}

static void add_string(bn_json *json, const char *string)
{
    bn_text *text = &json->text;
    bn_text_add(text, "\"");
    for (const char *p = string; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\')
            bn_text_addf(text, "\\%c", c);
        else if (c == '\n')
            bn_text_add(text, "\\n");
        else if (c == '\t')
            bn_text_add(text, "\\t");
        else if (c < 0x20 || c == 0x7f)
            bn_text_addf(text, "\\u%04x", c);
        else
            bn_text_add_bytes(text, p, 1);
    }
    bn_text_add(text, "\"");
}

/* What stands before a value: comma, line break, key. */
static void begin_value(bn_json *json, const char *key)
{
    if (json->filled)
        bn_text_add(&json->text, one_line(json) ? ", " : ",");
    if (json->depth && !one_line(json))
        new_line(json);
    json->filled = true;
    if (key) {
        add_string(json, key);
        bn_text_add(&json->text, ": ");
    }
}

static void open_with(bn_json *json, const char *key, const char *bracket)
{
    begin_value(json, key);
    bn_text_add(&json->text, bracket);
    json->depth++;
    json->filled = false;
}

static void close_with(bn_json *json, const char *bracket)
{
    bool flat = one_line(json), filled = json->filled;
    json->depth--;
    if (filled && !flat)
        new_line(json);
    if (json->flat_from > json->depth)
        json->flat_from = 0;
    bn_text_add(&json->text, bracket);
    json->filled = true;
}

void bn_json_object(bn_json *json, const char *key)
{
    open_with(json, key, "{");
}

void bn_json_object_end(bn_json *json)
{
    close_with(json, "}");
}

void bn_json_array(bn_json *json, const char *key)
{
    open_with(json, key, "[");
}

void bn_json_array_flat(bn_json *json, const char *key)
{
    open_with(json, key, "[");
    if (!json->flat_from)
        json->flat_from = json->depth;
}

void bn_json_array_end(bn_json *json)
{
    close_with(json, "]");
}

void bn_json_raw(bn_json *json, const char *key, const char *value)
{
    begin_value(json, key);
    bn_text_add(&json->text, value);
}

void bn_json_string(bn_json *json, const char *key, const char *value)
{
    begin_value(json, key);
    if (value)
        add_string(json, value);
    else
        bn_text_add(&json->text, "null");
}

void bn_json_int(bn_json *json, const char *key, int64_t value)
{
    begin_value(json, key);
    bn_text_addf(&json->text, "%lld", (long long)value);
}

void bn_json_double(bn_json *json, const char *key, double value)
{
    char number[BN_NUMBER_TEXT];
    bn_json_raw(json, key, isfinite(value) ? bn_number_text(value, number) : "null");
}

void bn_json_bool(bn_json *json, const char *key, bool value)
{
    bn_json_raw(json, key, value ? "true" : "false");
}

void bn_json_null(bn_json *json, const char *key)
{
    bn_json_raw(json, key, "null");
}

bn_status bn_json_take(bn_json *json, char **out)
{
    int indent = json->indent;
    bn_text_add(&json->text, "\n");
    bn_status status = bn_text_take(&json->text, out);
    *json = (bn_json){.indent = indent};
    return status;
}

void bn_json_clear(bn_json *json)
{
    bn_text_clear(&json->text);
    *json = (bn_json){.indent = json->indent};
}
