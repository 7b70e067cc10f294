#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "config/row.h"

enum { MAX_CONFIG_BYTES = 1 << 20 };

bn_status bn_config_init(bn_config *out)
{
    bn_status status = BN_OK;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < bn_config_row_count && status == BN_OK; i++)
        status = bn_row_set_default(out, &bn_config_rows[i]);
    if (status != BN_OK)
        bn_config_clear(out);
    return status;
}

void bn_config_clear(bn_config *config)
{
    for (int i = 0; i < bn_config_row_count; i++)
        bn_row_clear(config, &bn_config_rows[i]);
    memset(config, 0, sizeof *config);
}

bn_status bn_config_copy(const bn_config *from, bn_config *out)
{
    bn_status status = BN_OK;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < bn_config_row_count && status == BN_OK; i++)
        status = bn_row_copy(from, out, &bn_config_rows[i]);
    if (status != BN_OK)
        bn_config_clear(out);
    return status;
}

/* ---- JSON ---- */

static bn_status unknown_json(const char *where, const char *section, const cJSON *item)
{
    char *value = cJSON_PrintUnformatted(item);
    bn_status status = bn_config_unknown(where, section, item->string, value ? value : "?");
    cJSON_free(value);
    return status;
}

static bn_status not_an_object(const char *where, const char *what, const cJSON *item)
{
    char *found = cJSON_PrintUnformatted(item);
    bn_status status = bn_error(BN_BAD_CONFIG, "%s: %s: expected an object, found %.60s", where,
                                what, found ? found : "?");
    cJSON_free(found);
    return status;
}

/* The member that set `row` before `item` in this object, under another of its
 * names; NULL if there is none. */
static const cJSON *same_key_before(const cJSON *object, const cJSON *item, const char *section,
                                    const bn_config_row *row)
{
    for (const cJSON *before = object->child; before != item; before = before->next)
        if (bn_config_find(section, before->string) == row)
            return before;
    return NULL;
}

static bn_status set_member(bn_config *config, const char *where, const char *section,
                            const cJSON *object, const cJSON *item)
{
    const bn_config_row *row = bn_config_find(section, item->string);
    if (!row)
        return unknown_json(where, section, item);
    const cJSON *before = same_key_before(object, item, section, row);
    if (before)
        return bn_error(BN_BAD_CONFIG, "%s: %s.%s and %s.%s are the same key: keep one of them",
                        where, section, before->string, section, item->string);
    return bn_row_set_json(config, row, where, item);
}

static bool is_section(const char *name)
{
    for (int i = 0; i < bn_config_section_count; i++)
        if (strcmp(bn_config_sections[i].name, name) == 0)
            return true;
    return false;
}

static bn_status set_all(bn_config *config, const char *where, const cJSON *root)
{
    if (!cJSON_IsObject(root))
        return not_an_object(where, "the configuration", root);
    for (const cJSON *item = root->child; item; item = item->next) {
        if (strcmp(item->string, "$schema") == 0) /* for editors */
            continue;
        if (!is_section(item->string)) {
            BN_TRY(set_member(config, where, "", root, item));
            continue;
        }
        if (!cJSON_IsObject(item))
            return not_an_object(where, item->string, item);
        for (const cJSON *member = item->child; member; member = member->next)
            BN_TRY(set_member(config, where, item->string, item, member));
    }
    return BN_OK;
}

static bn_status parse(const char *text, size_t size, const char *name, bn_config *out)
{
    cJSON *root;
    BN_TRY(bn_config_init(out));
    bn_status status = bn_json_parse(name, text, size, &root);
    if (status == BN_BAD_DATA)
        status = BN_BAD_CONFIG;
    if (status == BN_OK) {
        status = set_all(out, name, root);
        cJSON_Delete(root);
    }
    if (status != BN_OK)
        bn_config_clear(out);
    return status;
}

bn_status bn_config_parse(const char *text, const char *name, bn_config *out)
{
    return parse(text, strlen(text), name, out);
}

bn_status bn_config_load(const char *path, bn_config *out)
{
    char *text;
    size_t size;
    memset(out, 0, sizeof *out);
    bn_status status = bn_fs_read(path, MAX_CONFIG_BYTES, &text, &size);
    if (status == BN_BAD_DATA)
        return BN_BAD_CONFIG;
    BN_TRY(status);
    status = parse(text, size, path, out);
    free(text);
    return status;
}

/* ---- --set ---- */

bn_status bn_config_set(bn_config *config, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return bn_error(BN_BAD_CONFIG, "--set: expected section.key=value, found '%s'", assignment);
    char *name = bn_format("%.*s", (int)(equals - assignment), assignment);
    if (!name)
        return BN_FAIL;
    char *dot = strchr(name, '.');
    const char *section = "", *key = name;
    if (dot) {
        *dot = '\0';
        section = name;
        key = dot + 1;
    }
    const bn_config_row *row = bn_config_find(section, key);
    bn_status status = row ? bn_row_set_text(config, row, "--set", equals + 1)
                           : bn_config_unknown("--set", section, key, equals + 1);
    free(name);
    return status;
}

/* ---- output ---- */

static void write_section(bn_json *json, const bn_config *config, const char *section)
{
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        if (strcmp(row->section, section) == 0)
            bn_row_write(json, row->key, config, row);
    }
}

bn_status bn_config_dump(const bn_config *config, char **out)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    for (int i = 0; i < bn_config_section_count; i++) {
        bn_json_object(&json, bn_config_sections[i].name);
        write_section(&json, config, bn_config_sections[i].name);
        bn_json_object_end(&json);
    }
    write_section(&json, config, "");
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
}

bn_status bn_config_compare(const bn_config *a, const bn_config *b, bn_config_diff *out)
{
    bn_status status = BN_OK;
    size_t bytes = (size_t)bn_config_row_count * sizeof *out->items;
    *out = (bn_config_diff){.items = calloc(1, bytes)};
    if (!out->items)
        return bn_error_nomem("differences of configs", bytes);
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        if (bn_row_equal(a, b, row))
            continue;
        bn_config_difference *d = &out->items[out->count++];
        d->key = row->name;
        d->role = row->role & (BN_CFG_ARCH | BN_CFG_SCHEDULE | BN_CFG_RUNTIME);
        BN_TRY_OUT(bn_row_text(a, row, &d->a));
        BN_TRY_OUT(bn_row_text(b, row, &d->b));
    }
out:
    if (status != BN_OK)
        bn_config_diff_clear(out);
    return status;
}

void bn_config_diff_clear(bn_config_diff *diff)
{
    for (int64_t i = 0; i < diff->count; i++) {
        free(diff->items[i].a);
        free(diff->items[i].b);
    }
    free(diff->items);
    *diff = (bn_config_diff){0};
}

/* A group size that neither weights nor activations are quantized with means
 * nothing, nor do keys of an adapter where there is none. */
static bool is_idle(const bn_config_difference *d, const bn_config *a, const bn_config *b)
{
    static const char adapter[] = "adapter.";
    if (strncmp(d->key, adapter, strlen(adapter)) == 0)
        return !a->adapter.base && !b->adapter.base;
    return strcmp(d->key, "quantization.group_size") == 0 &&
           bn_config_group_size(a) == bn_config_group_size(b) &&
           bn_config_act_group_size(a) == bn_config_act_group_size(b) &&
           !a->quantization.rules.count;
}

bn_status bn_config_check_resume(const bn_config *saved, const bn_config *now)
{
    bn_status status = BN_OK;
    bn_config_diff diff;
    BN_TRY(bn_config_compare(saved, now, &diff));
    for (int64_t i = 0; i < diff.count; i++) {
        const bn_config_difference *d = &diff.items[i];
        if (!(d->role & BN_CFG_ARCH) || is_idle(d, saved, now))
            continue;
        if (status == BN_OK)
            status = bn_error(BN_BAD_CONFIG,
                              "%s: the checkpoint was trained with %s and cannot go on with %s",
                              d->key, d->a, d->b);
        else
            bn_error(status, "%s; %s: %s -> %s", bn_error_text(), d->key, d->a, d->b);
    }
    bn_config_diff_clear(&diff);
    return status;
}
