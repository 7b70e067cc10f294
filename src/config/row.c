#include "config/row.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Enumerations are stored as ints through memcpy. */
#define BN_ENUM(section, key, def, role, help)                                                     \
    _Static_assert(sizeof(bn_cfg_##key) == sizeof(int), #key);
#include "config/config.def"

static void *at(bn_config *config, const bn_config_row *row)
{
    return (char *)config + row->offset;
}

static const void *at_const(const bn_config *config, const bn_config_row *row)
{
    return (const char *)config + row->offset;
}

static int get_enum(const bn_config *config, const bn_config_row *row)
{
    int value;
    memcpy(&value, at_const(config, row), sizeof value);
    return value;
}

bool bn_word_is_number(const char *word)
{
    double number;
    return bn_parse_f64(word, &number);
}

void bn_row_expected(const bn_config_row *row, bn_text *text)
{
    char low[BN_NUMBER_TEXT], high[BN_NUMBER_TEXT];
    switch (row->type) {
    case BN_ROW_INT:
        bn_text_addf(text, "a whole number from %lld to %lld", (long long)row->low,
                     (long long)row->high);
        break;
    case BN_ROW_REAL:
        bn_text_addf(text, "a number from %s to %s%s", bn_number_text(row->least, low),
                     row->role & BN_CFG_OPEN ? "below " : "", bn_number_text(row->most, high));
        break;
    case BN_ROW_BOOL:
        bn_text_add(text, "true or false");
        break;
    case BN_ROW_ENUM:
        for (int i = 0; i < row->word_count; i++) {
            const char *between = i == 0 ? "" : i + 1 < row->word_count ? ", " : " or ";
            bn_text_addf(text, bn_word_is_number(row->words[i]) ? "%s%s" : "%s\"%s\"", between,
                         row->words[i]);
        }
        break;
    case BN_ROW_STRING:
        bn_text_add(text, "a non-empty string");
        break;
    case BN_ROW_LIST:
        bn_text_add(text, "a list of non-empty strings");
        break;
    case BN_ROW_RULES:
        bn_rules_expected(row, text);
        break;
    }
    if (row->role & BN_CFG_NULL)
        bn_text_add(text, " or null");
}

static bn_status bad_value(const bn_config_row *row, const char *where, const char *found)
{
    bn_text expected = {0};
    char *text;
    bn_row_expected(row, &expected);
    BN_TRY(bn_text_take(&expected, &text));
    bn_status status =
        bn_error(BN_BAD_CONFIG, "%s: %s: expected %s, found %.80s", where, row->name, text, found);
    free(text);
    return status;
}

/* The setters return false for a value that is not allowed, and leave the
 * config alone then. */
static bool set_int(bn_config *config, const bn_config_row *row, double value)
{
    if (value != floor(value) || !(fabs(value) <= (double)BN_CFG_INT_MAX) ||
        (int64_t)value < row->low || (int64_t)value > row->high)
        return false;
    *(int64_t *)at(config, row) = (int64_t)value;
    return true;
}

static bool set_real(bn_config *config, const bn_config_row *row, double value)
{
    if (!(value >= row->least && value <= row->most) ||
        ((row->role & BN_CFG_OPEN) && value == row->most))
        return false;
    *(double *)at(config, row) = value;
    return true;
}

static bool set_bool(bn_config *config, const bn_config_row *row, bool value)
{
    *(bool *)at(config, row) = value;
    return true;
}

static bool set_word(bn_config *config, const bn_config_row *row, const char *word)
{
    for (int i = 0; i < row->word_count; i++) {
        if (strcmp(row->words[i], word) == 0) {
            memcpy(at(config, row), &i, sizeof i);
            return true;
        }
    }
    return false;
}

static bn_status set_string(bn_config *config, const bn_config_row *row, const char *value)
{
    char *copy = NULL;
    if (value && !(copy = bn_strdup(value)))
        return BN_FAIL;
    char **field = at(config, row);
    free(*field);
    *field = copy;
    return BN_OK;
}

/* Takes *list over. */
static void set_list(bn_config *config, const bn_config_row *row, bn_strings *list)
{
    bn_strings *field = at(config, row);
    bn_strings_clear(field);
    *field = *list;
    *list = (bn_strings){0};
}

/* "a, b" without the blanks; "" is the empty list. */
static bn_status split(const char *text, bn_strings *out)
{
    for (const char *p = text; *p;) {
        size_t size = strcspn(p, ",");
        const char *next = p + size + (p[size] == ',');
        while (size && *p == ' ') {
            p++;
            size--;
        }
        while (size && p[size - 1] == ' ')
            size--;
        if (size)
            BN_TRY(bn_strings_add_bytes(out, p, size));
        p = next;
    }
    return BN_OK;
}

static bn_status set_split(bn_config *config, const bn_config_row *row, const char *text)
{
    bn_strings list = {0};
    bn_status status = split(text, &list);
    if (status == BN_OK)
        set_list(config, row, &list);
    bn_strings_clear(&list);
    return status;
}

bn_status bn_row_set_default(bn_config *config, const bn_config_row *row)
{
    switch (row->type) {
    case BN_ROW_INT:
        *(int64_t *)at(config, row) = row->whole;
        break;
    case BN_ROW_REAL:
        *(double *)at(config, row) = row->real;
        break;
    case BN_ROW_BOOL:
        *(bool *)at(config, row) = row->whole != 0;
        break;
    case BN_ROW_ENUM:
        if (!set_word(config, row, row->text))
            return bad_value(row, "default", row->text);
        break;
    case BN_ROW_STRING:
        return set_string(config, row, row->text);
    case BN_ROW_LIST:
        return set_split(config, row, row->text);
    case BN_ROW_RULES:
        bn_rules_clear(at(config, row));
        break;
    }
    return BN_OK;
}

static bn_status bad_json(const bn_config_row *row, const char *where, const cJSON *value)
{
    char number[BN_NUMBER_TEXT];
    if (cJSON_IsNumber(value)) /* cJSON prints rounded numbers */
        return bad_value(row, where, bn_number_text(value->valuedouble, number));
    char *found = cJSON_PrintUnformatted(value);
    bn_status status = bad_value(row, where, found ? found : "?");
    cJSON_free(found);
    return status;
}

static bn_status set_json_list(bn_config *config, const bn_config_row *row, const char *where,
                               const cJSON *value)
{
    bn_status status = BN_OK;
    bn_strings list = {0};
    for (const cJSON *item = value->child; item && status == BN_OK; item = item->next) {
        if (cJSON_IsString(item) && *item->valuestring)
            status = bn_strings_add(&list, item->valuestring);
        else
            status = bad_json(row, where, value);
    }
    if (status == BN_OK)
        set_list(config, row, &list);
    bn_strings_clear(&list);
    return status;
}

bn_status bn_row_set_json(bn_config *config, const bn_config_row *row, const char *where,
                          const cJSON *value)
{
    bool good = false;
    char word[BN_NUMBER_TEXT];
    switch (row->type) {
    case BN_ROW_INT:
        good = cJSON_IsNumber(value) && set_int(config, row, value->valuedouble);
        break;
    case BN_ROW_REAL:
        good = cJSON_IsNumber(value) && set_real(config, row, value->valuedouble);
        break;
    case BN_ROW_BOOL:
        good = cJSON_IsBool(value) && set_bool(config, row, cJSON_IsTrue(value));
        break;
    case BN_ROW_ENUM: /* 8 stands for "8" */
        if (cJSON_IsNumber(value))
            good = set_word(config, row, bn_number_text(value->valuedouble, word));
        else
            good = cJSON_IsString(value) && set_word(config, row, value->valuestring);
        break;
    case BN_ROW_STRING:
        if (cJSON_IsString(value) && *value->valuestring)
            return set_string(config, row, value->valuestring);
        if (cJSON_IsNull(value) && (row->role & BN_CFG_NULL))
            return set_string(config, row, NULL);
        break;
    case BN_ROW_LIST:
        if (cJSON_IsArray(value))
            return set_json_list(config, row, where, value);
        break;
    case BN_ROW_RULES:
        if (cJSON_IsArray(value))
            return bn_rules_set_json(at(config, row), row, where, value);
        break;
    }
    return good ? BN_OK : bad_json(row, where, value);
}

static bn_status set_text_json(bn_config *config, const bn_config_row *row, const char *where,
                               const char *text)
{
    cJSON *value;
    bn_status status = bn_json_parse(row->name, text, strlen(text), &value);
    if (status == BN_BAD_DATA)
        return bad_value(row, where, text);
    BN_TRY(status);
    status = bn_row_set_json(config, row, where, value);
    cJSON_Delete(value);
    return status;
}

bn_status bn_row_set_text(bn_config *config, const bn_config_row *row, const char *where,
                          const char *text)
{
    bool good = false;
    double number;
    switch (row->type) {
    case BN_ROW_INT:
        good = bn_parse_f64(text, &number) && set_int(config, row, number);
        break;
    case BN_ROW_REAL:
        good = bn_parse_f64(text, &number) && set_real(config, row, number);
        break;
    case BN_ROW_BOOL:
        good = (strcmp(text, "true") == 0 && set_bool(config, row, true)) ||
               (strcmp(text, "false") == 0 && set_bool(config, row, false));
        break;
    case BN_ROW_ENUM:
        good = set_word(config, row, text);
        break;
    case BN_ROW_STRING:
        if ((row->role & BN_CFG_NULL) && strcmp(text, "null") == 0)
            return set_string(config, row, NULL);
        if (*text)
            return set_string(config, row, text);
        break;
    case BN_ROW_LIST:
        return text[0] == '[' ? set_text_json(config, row, where, text)
                              : set_split(config, row, text);
    case BN_ROW_RULES:
        return set_text_json(config, row, where, text);
    }
    return good ? BN_OK : bad_value(row, where, *text ? text : "nothing");
}

void bn_row_assign(const bn_config *from, bn_config *to, const bn_config_row *row)
{
    static const size_t size[] = {[BN_ROW_INT] = sizeof(int64_t),
                                  [BN_ROW_REAL] = sizeof(double),
                                  [BN_ROW_BOOL] = sizeof(bool),
                                  [BN_ROW_ENUM] = sizeof(int)};
    memcpy(at(to, row), at_const(from, row), size[row->type]);
}

bn_status bn_row_copy(const bn_config *from, bn_config *to, const bn_config_row *row)
{
    const void *source = at_const(from, row);
    switch (row->type) {
    case BN_ROW_INT:
    case BN_ROW_REAL:
    case BN_ROW_BOOL:
    case BN_ROW_ENUM:
        bn_row_assign(from, to, row);
        break;
    case BN_ROW_STRING:
        return set_string(to, row, *(char *const *)source);
    case BN_ROW_LIST:
        bn_strings_clear(at(to, row));
        return bn_strings_copy(source, at(to, row));
    case BN_ROW_RULES:
        return bn_rules_copy(source, at(to, row));
    }
    return BN_OK;
}

static bool strings_equal(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool bn_row_equal(const bn_config *a, const bn_config *b, const bn_config_row *row)
{
    const void *x = at_const(a, row), *y = at_const(b, row);
    switch (row->type) {
    case BN_ROW_INT:
        return *(const int64_t *)x == *(const int64_t *)y;
    case BN_ROW_REAL:
        return *(const double *)x == *(const double *)y;
    case BN_ROW_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case BN_ROW_ENUM:
        return get_enum(a, row) == get_enum(b, row);
    case BN_ROW_STRING:
        return strings_equal(*(char *const *)x, *(char *const *)y);
    case BN_ROW_LIST:
        return bn_strings_equal(x, y);
    case BN_ROW_RULES:
        return bn_rules_equal(x, y);
    }
    return true;
}

void bn_row_clear(bn_config *config, const bn_config_row *row)
{
    if (row->type == BN_ROW_STRING)
        free(*(char **)at(config, row));
    else if (row->type == BN_ROW_LIST)
        bn_strings_clear(at(config, row));
    else if (row->type == BN_ROW_RULES)
        bn_rules_clear(at(config, row));
}

static void write_word(bn_json *json, const char *key, const char *word)
{
    if (bn_word_is_number(word))
        bn_json_raw(json, key, word);
    else
        bn_json_string(json, key, word);
}

void bn_row_write(bn_json *json, const char *key, const bn_config *config, const bn_config_row *row)
{
    const void *value = at_const(config, row);
    const bn_strings *list = value;
    switch (row->type) {
    case BN_ROW_INT:
        bn_json_int(json, key, *(const int64_t *)value);
        break;
    case BN_ROW_REAL:
        bn_json_double(json, key, *(const double *)value);
        break;
    case BN_ROW_BOOL:
        bn_json_bool(json, key, *(const bool *)value);
        break;
    case BN_ROW_ENUM:
        write_word(json, key, row->words[get_enum(config, row)]);
        break;
    case BN_ROW_STRING:
        bn_json_string(json, key, *(char *const *)value);
        break;
    case BN_ROW_LIST:
        bn_json_array_flat(json, key);
        for (size_t i = 0; i < list->count; i++)
            bn_json_string(json, NULL, list->items[i]);
        bn_json_array_end(json);
        break;
    case BN_ROW_RULES:
        bn_rules_write(json, key, value);
        break;
    }
}

bn_status bn_row_text(const bn_config *config, const bn_config_row *row, char **out)
{
    bn_json json = {0};
    bn_row_write(&json, NULL, config, row);
    BN_TRY(bn_json_take(&json, out));
    (*out)[strlen(*out) - 1] = '\0'; /* the newline */
    return BN_OK;
}
