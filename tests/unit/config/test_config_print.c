/* Dump, schema, reference and help all follow the table. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/row.h"

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is missing", part);
}

/* A value other than the default for every key. */
static void change_everything(bn_config *c)
{
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        char *text = NULL;
        switch (row->type) {
        case BN_ROW_INT:
            text = bn_format("%lld", (long long)(row->whole == row->high ? row->low : row->high));
            break;
        case BN_ROW_REAL:
            text = bn_format("%.17g", row->least + (row->real - row->least) / 3 + 1e-9 / 7);
            break;
        case BN_ROW_BOOL:
            text = bn_format("%s", row->whole ? "false" : "true");
            break;
        case BN_ROW_ENUM:
            text = bn_format("%s", row->words[row->word_count - 1]);
            break;
        case BN_ROW_STRING:
            text = bn_format("q\"\\\t\x01%d", i);
            break;
        case BN_ROW_LIST:
            text = bn_format("a,b\"%d", i);
            break;
        case BN_ROW_RULES:
            text = bn_format("[{\"match\":\"a\\\"*\",\"weight_bits\":\"none\",\"group_size\":32},"
                             "{\"match\":\"b\",\"activation_bits\":8}]");
            break;
        }
        assert_non_null(text);
        assert_ok(bn_row_set_text(c, row, "test", text));
        free(text);
    }
}

static void assert_round_trip(const bn_config *c)
{
    char *text, *again;
    bn_config back;
    bn_config_diff diff;
    assert_ok(bn_config_dump(c, &text));
    assert_ok(bn_config_parse(text, "dump", &back));
    assert_ok(bn_config_compare(c, &back, &diff));
    assert_int_equal(diff.count, 0);
    assert_ok(bn_config_dump(&back, &again));
    assert_string_equal(text, again);
    bn_config_diff_clear(&diff);
    bn_config_clear(&back);
    free(text);
    free(again);
}

static void test_round_trip(void **state)
{
    (void)state;
    bn_config c, copy;
    bn_config_diff diff;
    assert_ok(bn_config_init(&c));
    assert_round_trip(&c);
    assert_ok(bn_config_copy(&c, &copy));
    change_everything(&c);
    assert_round_trip(&c);

    /* All but the enumerations of one word are different now. */
    int expected = 0;
    for (int i = 0; i < bn_config_row_count; i++)
        expected += bn_config_rows[i].type != BN_ROW_ENUM || bn_config_rows[i].word_count > 1;
    assert_ok(bn_config_compare(&copy, &c, &diff));
    for (int64_t i = 0; i < diff.count; i++)
        assert_string_not_equal(diff.items[i].a, diff.items[i].b);
    /* Defaults that are the last word stay as they are. */
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        if (row->type == BN_ROW_ENUM && row->word_count > 1 &&
            strcmp(row->text, row->words[row->word_count - 1]) == 0)
            expected--;
    }
    assert_int_equal(diff.count, expected);
    bn_config_diff_clear(&diff);
    bn_config_clear(&c);
    bn_config_clear(&copy);
}

static void test_dump_text(void **state)
{
    (void)state;
    bn_config c;
    char *text;
    assert_ok(bn_config_init(&c));
    assert_ok(bn_config_dump(&c, &text));
    assert_contains(text, "{\n  \"model\": {\n    \"kind\": \"transformer\",\n");
    assert_contains(text, "    \"activation_bits\": 8,\n");
    assert_contains(text, "    \"validation\": null,\n");
    assert_contains(text, "    \"modules_to_not_convert\": [\"lm_head\"],\n    \"rules\": []");
    assert_contains(text, "  \"output_dir\": \"runs/small\"\n}\n");
    free(text);
    bn_config_clear(&c);
}

/* What the schema says of a key is what the table says. */
static void check_schema_of(const cJSON *object, const bn_config_row *row)
{
    const cJSON *minimum = cJSON_GetObjectItemCaseSensitive(object, "minimum");
    const cJSON *words = cJSON_GetObjectItemCaseSensitive(object, "enum");
    assert_non_null(object);
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "description")), row->help);
    assert_non_null(cJSON_GetObjectItemCaseSensitive(object, "default"));
    assert_true(words || cJSON_GetObjectItemCaseSensitive(object, "type"));
    if (row->type == BN_ROW_INT)
        assert_true(minimum->valuedouble == (double)row->low);
    if (row->type == BN_ROW_ENUM)
        assert_true(cJSON_GetArraySize(words) >= row->word_count);
    if (row->type == BN_ROW_REAL) {
        const char *bound = row->role & BN_CFG_OPEN ? "exclusiveMaximum" : "maximum";
        const cJSON *most = cJSON_GetObjectItemCaseSensitive(object, bound);
        assert_true(minimum->valuedouble == row->least && most->valuedouble == row->most);
    }
}

static void test_schema(void **state)
{
    (void)state;
    char *text;
    cJSON *schema;
    assert_ok(bn_config_schema(&text));
    assert_ok(bn_json_parse("schema", text, strlen(text), &schema));
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(schema, "$schema")),
                        "http://json-schema.org/draft-07/schema#");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(schema, "additionalProperties")));
    const cJSON *top = cJSON_GetObjectItemCaseSensitive(schema, "properties");
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        const cJSON *keys = top;
        if (*row->section)
            keys = cJSON_GetObjectItemCaseSensitive(
                cJSON_GetObjectItemCaseSensitive(top, row->section), "properties");
        check_schema_of(cJSON_GetObjectItemCaseSensitive(keys, row->key), row);
    }
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(top, "model"), "properties");
    assert_non_null(cJSON_GetObjectItemCaseSensitive(model, "n_embd"));
    cJSON_Delete(schema);
    free(text);
}

static void test_reference_and_help(void **state)
{
    (void)state;
    char *page, *help;
    assert_ok(bn_config_reference(&page));
    assert_ok(bn_config_help(&help));
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        assert_contains(page, row->help);
        assert_contains(help, row->help);
        assert_contains(help, row->name);
        if (strchr(row->help, '|'))
            fail_msg("%s: the help would break the table of the reference page", row->name);
    }
    for (int i = 0; i < bn_config_section_count; i++)
        assert_contains(page, bn_config_sections[i].help);
    assert_contains(page, "| `hidden_size` | `128` | a whole number from 1 to 1048576 | fixed | "
                          "Width of the residual stream, or of an mlp's hidden layers. |\n");
    assert_contains(page, "Other names: `n_layer` for `num_hidden_layers`, ");
    assert_contains(help, "  training.seed (1337)\n");
    free(page);
    free(help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_dump_text),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_reference_and_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
