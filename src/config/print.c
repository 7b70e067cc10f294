/* Texts made from the table: JSON schema, reference page, help. */
#include <stdlib.h>
#include <string.h>

#include "config/row.h"

/* ---- schema ---- */

static void schema_enum(bn_json *json, const bn_config_row *row)
{
    bn_json_array_flat(json, "enum");
    for (int i = 0; i < row->word_count; i++) {
        bn_json_string(json, NULL, row->words[i]);
        if (bn_word_is_number(row->words[i]))
            bn_json_raw(json, NULL, row->words[i]);
    }
    bn_json_array_end(json);
}

static void schema_string(bn_json *json, const bn_config_row *row)
{
    if (row->role & BN_CFG_NULL) {
        bn_json_array_flat(json, "type");
        bn_json_string(json, NULL, "string");
        bn_json_string(json, NULL, "null");
        bn_json_array_end(json);
    } else {
        bn_json_string(json, "type", "string");
    }
    bn_json_int(json, "minLength", 1);
}

static void schema_type(bn_json *json, const bn_config_row *row);

static void schema_rules(bn_json *json, const bn_config_row *rules)
{
    bn_json_string(json, "type", "array");
    bn_json_object(json, "items");
    bn_json_string(json, "type", "object");
    bn_json_bool(json, "additionalProperties", false);
    bn_json_array_flat(json, "required");
    bn_json_string(json, NULL, "match");
    bn_json_array_end(json);
    bn_json_object(json, "properties");
    bn_json_object(json, "match");
    bn_json_string(json, "description", "Pattern (*, ?) of module names.");
    bn_json_string(json, "type", "string");
    bn_json_int(json, "minLength", 1);
    bn_json_object_end(json);
    for (int i = 0; i < bn_config_row_count; i++) {
        if (!bn_rule_may_set(rules, &bn_config_rows[i]))
            continue;
        bn_json_object(json, bn_config_rows[i].key);
        bn_json_string(json, "description", bn_config_rows[i].help);
        schema_type(json, &bn_config_rows[i]);
        bn_json_object_end(json);
    }
    bn_json_object_end(json);
    bn_json_object_end(json);
}

static void schema_type(bn_json *json, const bn_config_row *row)
{
    switch (row->type) {
    case BN_ROW_INT:
        bn_json_string(json, "type", "integer");
        bn_json_int(json, "minimum", row->low);
        bn_json_int(json, "maximum", row->high);
        break;
    case BN_ROW_REAL:
        bn_json_string(json, "type", "number");
        bn_json_double(json, "minimum", row->least);
        bn_json_double(json, row->role & BN_CFG_OPEN ? "exclusiveMaximum" : "maximum", row->most);
        break;
    case BN_ROW_BOOL:
        bn_json_string(json, "type", "boolean");
        break;
    case BN_ROW_ENUM:
        schema_enum(json, row);
        break;
    case BN_ROW_STRING:
        schema_string(json, row);
        break;
    case BN_ROW_LIST:
        bn_json_string(json, "type", "array");
        bn_json_object(json, "items");
        bn_json_string(json, "type", "string");
        bn_json_int(json, "minLength", 1);
        bn_json_object_end(json);
        break;
    case BN_ROW_RULES:
        schema_rules(json, row);
        break;
    }
}

static void schema_keys(bn_json *json, const bn_config *defaults, const char *section)
{
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        if (strcmp(row->section, section) != 0)
            continue;
        bn_json_object(json, row->key);
        bn_json_string(json, "description", row->help);
        schema_type(json, row);
        bn_row_write(json, "default", defaults, row);
        bn_json_object_end(json);
    }
    for (int i = 0; i < bn_config_alias_count; i++) {
        const bn_config_alias *alias = &bn_config_aliases[i];
        if (strcmp(alias->section, section) != 0)
            continue;
        const bn_config_row *row = bn_config_find(section, alias->key);
        bn_json_object(json, alias->alias);
        bn_json_string(json, "title", row->name);
        bn_json_string(json, "description", row->help);
        schema_type(json, row);
        bn_json_object_end(json);
    }
}

bn_status bn_config_schema(char **out)
{
    bn_config defaults;
    bn_json json = {.indent = 2};
    *out = NULL;
    BN_TRY(bn_config_init(&defaults));
    bn_json_object(&json, NULL);
    bn_json_string(&json, "$schema", "http://json-schema.org/draft-07/schema#");
    bn_json_string(&json, "title", "Configuration of bitnet-train");
    bn_json_string(&json, "type", "object");
    bn_json_bool(&json, "additionalProperties", false);
    bn_json_object(&json, "properties");
    bn_json_object(&json, "$schema");
    bn_json_string(&json, "description", "Where an editor finds this schema; not looked at.");
    bn_json_string(&json, "type", "string");
    bn_json_object_end(&json);
    for (int i = 0; i < bn_config_section_count; i++) {
        bn_json_object(&json, bn_config_sections[i].name);
        bn_json_string(&json, "description", bn_config_sections[i].help);
        bn_json_string(&json, "type", "object");
        bn_json_bool(&json, "additionalProperties", false);
        bn_json_object(&json, "properties");
        schema_keys(&json, &defaults, bn_config_sections[i].name);
        bn_json_object_end(&json);
        bn_json_object_end(&json);
    }
    schema_keys(&json, &defaults, "");
    bn_json_object_end(&json);
    bn_json_object_end(&json);
    bn_config_clear(&defaults);
    return bn_json_take(&json, out);
}

/* ---- reference page ---- */

static const char *on_resume(const bn_config_row *row)
{
    return row->role & BN_CFG_ARCH ? "fixed" : row->role & BN_CFG_SCHEDULE ? "may change" : "free";
}

static bn_status reference_row(bn_text *text, const bn_config *defaults, const bn_config_row *row)
{
    char *value;
    BN_TRY(bn_row_text(defaults, row, &value));
    bn_text_addf(text, "| `%s` | `%s` | ", row->key, value);
    bn_row_expected(row, text);
    bn_text_addf(text, " | %s | %s |\n", on_resume(row), row->help);
    free(value);
    return BN_OK;
}

/* The keys of one section ("" for the top) as a Markdown table. */
static bn_status reference_table(bn_text *text, const bn_config *defaults, const char *section)
{
    bn_text_add(text, "| key | default | values | on resume | meaning |\n"
                      "|---|---|---|---|---|\n");
    for (int i = 0; i < bn_config_row_count; i++)
        if (strcmp(bn_config_rows[i].section, section) == 0)
            BN_TRY(reference_row(text, defaults, &bn_config_rows[i]));
    const char *before = "\nOther names: ";
    for (int i = 0; i < bn_config_alias_count; i++) {
        const bn_config_alias *alias = &bn_config_aliases[i];
        if (strcmp(alias->section, section) != 0)
            continue;
        bn_text_addf(text, "%s`%s` for `%s`", before, alias->alias, alias->key);
        before = ", ";
    }
    if (*before == ',')
        bn_text_add(text, ".\n");
    return BN_OK;
}

bn_status bn_config_reference(char **out)
{
    bn_status status = BN_OK;
    bn_config defaults;
    bn_text text = {0};
    *out = NULL;
    BN_TRY(bn_config_init(&defaults));
    bn_text_add(&text,
                "# Configuration reference\n\n"
                "Generated from `src/config/config.def`. Every key may be left out. On resume, a "
                "*fixed* key must be as it was, one that *may change* alters the training from "
                "there on, and a *free* one has no influence on what is learned.\n");
    for (int i = 0; i < bn_config_section_count; i++) {
        const bn_config_section *section = &bn_config_sections[i];
        bn_text_addf(&text, "\n## %s\n\n%s\n\n", section->name, section->help);
        BN_TRY_OUT(reference_table(&text, &defaults, section->name));
    }
    bn_text_add(&text, "\n## Top level\n\n");
    BN_TRY_OUT(reference_table(&text, &defaults, ""));
    status = bn_text_take(&text, out);
out:
    bn_config_clear(&defaults);
    bn_text_clear(&text);
    return status;
}

/* ---- help ---- */

bn_status bn_config_help(char **out)
{
    bn_status status = BN_OK;
    bn_config defaults;
    bn_text text = {0};
    *out = NULL;
    BN_TRY(bn_config_init(&defaults));
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        char *value;
        BN_TRY_OUT(bn_row_text(&defaults, row, &value));
        bn_text_addf(&text, "  %s (%s)\n      %s\n      ", row->name, value, row->help);
        bn_row_expected(row, &text);
        bn_text_add(&text, "\n");
        free(value);
    }
    status = bn_text_take(&text, out);
out:
    bn_config_clear(&defaults);
    bn_text_clear(&text);
    return status;
}
