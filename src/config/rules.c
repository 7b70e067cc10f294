/* The value of quantization.rules, and what it means for a module. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "config/row.h"

/* The keys that a rule may hold are those of its own section marked so. */
bool bn_rule_may_set(const bn_config_row *rules, const bn_config_row *key)
{
    return (key->role & BN_CFG_LAYER) && strcmp(key->section, rules->section) == 0;
}

static void clear_rule(bn_config_rule *rule)
{
    free(rule->match);
    *rule = (bn_config_rule){0};
}

void bn_rules_clear(bn_config_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        clear_rule(&rules->items[i]);
    free(rules->items);
    *rules = (bn_config_rules){0};
}

/* ---- reading ---- */

static bn_status unknown_key(const bn_config_row *rules, const char *where, int index,
                             const cJSON *item)
{
    bn_nearest nearest = {.wanted = item->string};
    bn_nearest_offer(&nearest, "match");
    for (int i = 0; i < bn_config_row_count; i++)
        if (bn_rule_may_set(rules, &bn_config_rows[i]))
            bn_nearest_offer(&nearest, bn_config_rows[i].key);
    char *value = cJSON_PrintUnformatted(item);
    bn_status status =
        bn_error(BN_BAD_CONFIG, "%s: %s[%d].%.80s: unknown key in a rule (value %.60s)%s%s%s",
                 where, rules->name, index, item->string, value ? value : "?",
                 nearest.best ? "; did you mean " : "", nearest.best ? nearest.best : "",
                 nearest.best ? "?" : "");
    cJSON_free(value);
    return status;
}

/* One key of a rule, checked and named in messages as itself. */
static bn_status set_key(bn_config_rule *rule, const bn_config_row *rules, const char *where,
                         int index, const cJSON *item)
{
    char name[160];
    const bn_config_row *row = bn_config_find(rules->section, item->string);
    if (!row || !bn_rule_may_set(rules, row))
        return unknown_key(rules, where, index, item);
    if (rule->key_count == BN_RULE_KEYS_MAX)
        return bn_error(BN_BAD_CONFIG, "%s: %s[%d]: expected at most %d keys", where, rules->name,
                        index, BN_RULE_KEYS_MAX);
    bn_config_row named = *row;
    snprintf(name, sizeof name, "%s[%d].%s", rules->name, index, row->key);
    named.name = name;
    BN_TRY(bn_row_set_json(&rule->values, &named, where, item));
    rule->keys[rule->key_count++] = row;
    return BN_OK;
}

static bn_status read_rule(bn_config_rule *rule, const bn_config_row *rules, const char *where,
                           int index, const cJSON *object)
{
    const cJSON *match = cJSON_GetObjectItemCaseSensitive(object, "match");
    if (!cJSON_IsString(match) || !*match->valuestring) {
        char *found = cJSON_PrintUnformatted(match ? match : object);
        bn_status status = bn_error(BN_BAD_CONFIG,
                                    "%s: %s[%d].match: expected a pattern of module names, found "
                                    "%.80s",
                                    where, rules->name, index, found ? found : "?");
        cJSON_free(found);
        return status;
    }
    if (!(rule->match = bn_strdup(match->valuestring)))
        return BN_FAIL;
    for (const cJSON *item = object->child; item; item = item->next)
        if (item != match)
            BN_TRY(set_key(rule, rules, where, index, item));
    return BN_OK;
}

bn_status bn_rules_set_json(bn_config_rules *out, const bn_config_row *row, const char *where,
                            const cJSON *array)
{
    bn_status status = BN_OK;
    const int count = cJSON_GetArraySize(array);
    bn_config_rules rules = {calloc((size_t)count + 1, sizeof *rules.items), 0};
    if (!rules.items)
        return bn_error_nomem(row->name, (size_t)count * sizeof *rules.items);
    for (const cJSON *item = array->child; item; item = item->next) {
        const int index = (int)rules.count++;
        BN_TRY_OUT(read_rule(&rules.items[index], row, where, index, item));
    }
    bn_rules_clear(out);
    *out = rules;
    rules = (bn_config_rules){0};
out:
    bn_rules_clear(&rules);
    return status;
}

/* ---- the other verbs of a row ---- */

bn_status bn_rules_copy(const bn_config_rules *from, bn_config_rules *to)
{
    bn_config_rules copy = {calloc(from->count + 1, sizeof *copy.items), 0};
    if (!copy.items)
        return bn_error_nomem("rules", from->count * sizeof *copy.items);
    for (; copy.count < from->count; copy.count++) {
        bn_config_rule *rule = &copy.items[copy.count];
        *rule = from->items[copy.count];
        if (!(rule->match = bn_strdup(rule->match))) {
            bn_rules_clear(&copy);
            return BN_FAIL;
        }
    }
    bn_rules_clear(to);
    *to = copy;
    return BN_OK;
}

static bool rule_equal(const bn_config_rule *a, const bn_config_rule *b)
{
    if (strcmp(a->match, b->match) != 0 || a->key_count != b->key_count)
        return false;
    for (int i = 0; i < a->key_count; i++)
        if (a->keys[i] != b->keys[i] || !bn_row_equal(&a->values, &b->values, a->keys[i]))
            return false;
    return true;
}

bool bn_rules_equal(const bn_config_rules *a, const bn_config_rules *b)
{
    for (size_t i = 0; i < a->count && i < b->count; i++)
        if (!rule_equal(&a->items[i], &b->items[i]))
            return false;
    return a->count == b->count;
}

void bn_rules_write(bn_json *json, const char *key, const bn_config_rules *rules)
{
    if (rules->count)
        bn_json_array(json, key);
    else
        bn_json_array_flat(json, key);
    for (size_t i = 0; i < rules->count; i++) {
        const bn_config_rule *rule = &rules->items[i];
        bn_json_object(json, NULL);
        bn_json_string(json, "match", rule->match);
        for (int k = 0; k < rule->key_count; k++)
            bn_row_write(json, rule->keys[k]->key, &rule->values, rule->keys[k]);
        bn_json_object_end(json);
    }
    bn_json_array_end(json);
}

void bn_rules_expected(const bn_config_row *row, bn_text *text)
{
    bn_text_add(text, "a list of objects with match (a pattern) and any of");
    for (int i = 0, n = 0; i < bn_config_row_count; i++)
        if (bn_rule_may_set(row, &bn_config_rows[i]))
            bn_text_addf(text, "%s %s", n++ ? "," : "", bn_config_rows[i].key);
}

/* ---- what rules mean ---- */

/* A pattern matches the dotted name or a run of whole components of it. */
bool bn_config_matches(const char *pattern, const char *module)
{
    char name[256];
    snprintf(name, sizeof name, "%s", module);
    for (char *from = name; from; from = strchr(from, '.')) {
        from += *from == '.';
        for (char *end = from; end;) { /* runs from..end, the longest last */
            end = strchr(end, '.');
            if (end)
                *end = '\0';
            const bool found = bn_glob_match(pattern, from);
            if (end)
                *end++ = '.';
            if (found)
                return true;
        }
    }
    return false;
}

bool bn_config_matches_any(const bn_strings *patterns, const char *module)
{
    for (size_t i = 0; i < patterns->count; i++)
        if (bn_config_matches(patterns->items[i], module))
            return true;
    return false;
}

bool bn_config_keeps_float(const bn_config *config, const char *module)
{
    return bn_config_matches_any(&config->quantization.modules_to_not_convert, module);
}

bn_config bn_config_under(const bn_config *config, const bn_config_rule *rule)
{
    bn_config view = *config;
    for (int i = 0; i < rule->key_count; i++)
        bn_row_assign(&rule->values, &view, rule->keys[i]);
    return view;
}

bn_config bn_config_of_module(const bn_config *config, const char *module)
{
    const bn_config_rules *rules = &config->quantization.rules;
    for (size_t i = 0; i < rules->count; i++)
        if (bn_config_matches(rules->items[i].match, module))
            return bn_config_under(config, &rules->items[i]);
    return *config;
}
