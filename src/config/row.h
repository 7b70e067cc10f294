/* row.h - private: the table of keys as data, and the work on one value.
 *
 * `where` in front of messages is the file, or "--set".
 */
#ifndef BN_CONFIG_ROW_H
#define BN_CONFIG_ROW_H

#include <stddef.h>

#include "base/json.h"
#include "config/config.h"

typedef enum bn_row_type {
    BN_ROW_INT,
    BN_ROW_REAL,
    BN_ROW_BOOL,
    BN_ROW_ENUM,
    BN_ROW_STRING,
    BN_ROW_LIST,
    BN_ROW_RULES,
} bn_row_type;

typedef struct bn_config_row {
    const char *section, *key; /* section "" at the top */
    const char *name;          /* "model.hidden_size", "output_dir" */
    bn_row_type type;
    size_t offset; /* in bn_config */
    unsigned role; /* BN_CFG_* */
    const char *help;
    const char *text;         /* default of ENUM, STRING (may be NULL) and LIST */
    int64_t whole, low, high; /* INT, and the default of BOOL: default, min, max */
    double real, least, most; /* REAL: default, min, max */
    const char *const *words; /* ENUM */
    int word_count;
} bn_config_row;

typedef struct bn_config_section {
    const char *name, *help;
} bn_config_section;

typedef struct bn_config_alias {
    const char *section, *alias, *key;
} bn_config_alias;

extern const bn_config_row bn_config_rows[];
extern const int bn_config_row_count;
extern const bn_config_section bn_config_sections[];
extern const int bn_config_section_count;
extern const bn_config_alias bn_config_aliases[];
extern const int bn_config_alias_count;

/* The row of a key or of its alias in a section; NULL if there is none. */
const bn_config_row *bn_config_find(const char *section, const char *key);

/* BN_BAD_CONFIG for a key that is not in the table, with its value as text and
 * the nearest key. `section` is "" at the top. */
bn_status bn_config_unknown(const char *where, const char *section, const char *key,
                            const char *value);

/* ---- one value of a config; row->offset says where ---- */
bn_status bn_row_set_default(bn_config *config, const bn_config_row *row) BN_MUST_CHECK;
bn_status bn_row_set_json(bn_config *config, const bn_config_row *row, const char *where,
                          const cJSON *value) BN_MUST_CHECK;
bn_status bn_row_set_text(bn_config *config, const bn_config_row *row, const char *where,
                          const char *text) BN_MUST_CHECK;
bn_status bn_row_copy(const bn_config *from, bn_config *to, const bn_config_row *row) BN_MUST_CHECK;
bool bn_row_equal(const bn_config *a, const bn_config *b, const bn_config_row *row);
void bn_row_clear(bn_config *config, const bn_config_row *row);

/* The value as a member of the open object. */
void bn_row_write(bn_json *json, const char *key, const bn_config *config,
                  const bn_config_row *row);

/* The value as JSON text on one line. The caller frees. */
bn_status bn_row_text(const bn_config *config, const bn_config_row *row, char **out) BN_MUST_CHECK;

/* "a whole number from 1 to 4096" and so on. */
void bn_row_expected(const bn_config_row *row, bn_text *text);

/* The same for a value without memory of its own: it cannot fail. */
void bn_row_assign(const bn_config *from, bn_config *to, const bn_config_row *row);

/* ---- the value of a RULES row (rules.c); `row` is that row ---- */
bool bn_rule_may_set(const bn_config_row *row, const bn_config_row *key);
bn_status bn_rules_set_json(bn_config_rules *out, const bn_config_row *row, const char *where,
                            const cJSON *array) BN_MUST_CHECK;
bn_status bn_rules_copy(const bn_config_rules *from, bn_config_rules *to) BN_MUST_CHECK;
bool bn_rules_equal(const bn_config_rules *a, const bn_config_rules *b);
void bn_rules_clear(bn_config_rules *rules);
void bn_rules_write(bn_json *json, const char *key, const bn_config_rules *rules);
void bn_rules_expected(const bn_config_row *row, bn_text *text);

/* A word of an ENUM is written as a number in JSON: "8". */
bool bn_word_is_number(const char *word);

#endif
