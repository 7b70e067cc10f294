#include <string.h>

#include "config/row.h"

/* The words of every ENUM key: static const char *const words_hidden_act[]. */
#define BN_AS_WORD(id, word) word,
#define BN_ENUM(section, key, def, role, help)                                                     \
    static const char *const words_##key[] = {BN_CHOICES_##key(BN_AS_WORD)};
#include "config/config.def"
#undef BN_AS_WORD

#define BN_COUNT_OF(array) (int)(sizeof(array) / sizeof(array)[0])
#define BN_ROW_HEAD(sec, member, kind, flags, sentence)                                            \
    .section = #sec, .key = #member, .name = #sec "." #member, .type = (kind),                     \
    .offset = offsetof(bn_config, sec.member), .role = (flags), .help = (sentence)

const bn_config_row bn_config_rows[] = {
#define BN_INT(section, key, def, min, max, role, help)                                            \
    {BN_ROW_HEAD(section, key, BN_ROW_INT, role, help), .whole = (def), .low = (min),              \
     .high = (max)},
#define BN_REAL(section, key, def, min, max, role, help)                                           \
    {BN_ROW_HEAD(section, key, BN_ROW_REAL, role, help), .real = (def), .least = (min),            \
     .most = (max)},
#define BN_BOOL(section, key, def, role, help)                                                     \
    {BN_ROW_HEAD(section, key, BN_ROW_BOOL, role, help), .whole = (def)},
#define BN_ENUM(section, key, def, role, help)                                                     \
    {BN_ROW_HEAD(section, key, BN_ROW_ENUM, role, help), .text = (def), .words = words_##key,      \
     .word_count = BN_COUNT_OF(words_##key)},
#define BN_STRING(section, key, def, role, help)                                                   \
    {BN_ROW_HEAD(section, key, BN_ROW_STRING, role, help), .text = (def)},
#define BN_LIST(section, key, def, role, help)                                                     \
    {BN_ROW_HEAD(section, key, BN_ROW_LIST, role, help), .text = (def)},
#define BN_RULES(section, key, role, help) {BN_ROW_HEAD(section, key, BN_ROW_RULES, role, help)},
#define BN_TOP_STRING(member, def, flags, sentence)                                                \
    {.section = "",                                                                                \
     .key = #member,                                                                               \
     .name = #member,                                                                              \
     .type = BN_ROW_STRING,                                                                        \
     .offset = offsetof(bn_config, member),                                                        \
     .role = (flags),                                                                              \
     .help = (sentence),                                                                           \
     .text = (def)},
#include "config/config.def"
};
const int bn_config_row_count = BN_COUNT_OF(bn_config_rows);

const bn_config_section bn_config_sections[] = {
#define BN_SECTION(section, help) {#section, help},
#include "config/config.def"
};
const int bn_config_section_count = BN_COUNT_OF(bn_config_sections);

const bn_config_alias bn_config_aliases[] = {
#define BN_ALIAS(section, alias, key) {#section, #alias, #key},
#include "config/config.def"
};
const int bn_config_alias_count = BN_COUNT_OF(bn_config_aliases);

static const bn_config_row *find_key(const char *section, const char *key)
{
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        if (strcmp(row->section, section) == 0 && strcmp(row->key, key) == 0)
            return row;
    }
    return NULL;
}

const bn_config_row *bn_config_find(const char *section, const char *key)
{
    for (int i = 0; i < bn_config_alias_count; i++) {
        const bn_config_alias *a = &bn_config_aliases[i];
        if (strcmp(a->section, section) == 0 && strcmp(a->alias, key) == 0)
            return find_key(section, a->key);
    }
    return find_key(section, key);
}

/* The valid key that was probably meant, by its full name; NULL if none is
 * near. A key known in another section wins over a similar one in this. */
static const char *nearest_name(const char *section, const char *key)
{
    const char *elsewhere = NULL;
    for (int i = 0; i < bn_config_row_count; i++)
        if (bn_edit_distance(bn_config_rows[i].key, key) == 0)
            elsewhere = bn_config_rows[i].name;
    for (int i = 0; i < bn_config_alias_count && !elsewhere; i++) {
        const bn_config_alias *a = &bn_config_aliases[i];
        if (bn_edit_distance(a->alias, key) == 0)
            elsewhere = find_key(a->section, a->key)->name;
    }
    if (elsewhere)
        return elsewhere;

    bn_nearest here = {.wanted = key}, anywhere = {.wanted = key}, sections = {.wanted = key};
    for (int i = 0; i < bn_config_row_count; i++) {
        bn_nearest_offer(&anywhere, bn_config_rows[i].key);
        if (strcmp(bn_config_rows[i].section, section) == 0)
            bn_nearest_offer(&here, bn_config_rows[i].key);
    }
    for (int i = 0; i < bn_config_section_count && !*section; i++)
        if (strcmp(bn_config_sections[i].name, key) != 0)
            bn_nearest_offer(&sections, bn_config_sections[i].name);
    if (sections.best && (!here.best || sections.distance < here.distance))
        return sections.best;
    const char *best = here.best ? here.best : anywhere.best;
    for (int i = 0; i < bn_config_row_count && best; i++)
        if (bn_config_rows[i].key == best)
            return bn_config_rows[i].name;
    return NULL;
}

bn_status bn_config_unknown(const char *where, const char *section, const char *key,
                            const char *value)
{
    const char *nearest = nearest_name(section, key);
    return bn_error(BN_BAD_CONFIG, "%s: %s%s%.80s: unknown key (value %.60s)%s%s%s", where, section,
                    *section ? "." : "", key, value, nearest ? "; did you mean " : "",
                    nearest ? nearest : "", nearest ? "?" : "");
}

const char *bn_config_word(const char *name, int value)
{
    for (int i = 0; i < bn_config_row_count; i++) {
        const bn_config_row *row = &bn_config_rows[i];
        if (row->type == BN_ROW_ENUM && strcmp(row->name, name) == 0)
            return value >= 0 && value < row->word_count ? row->words[value] : NULL;
    }
    return NULL;
}
