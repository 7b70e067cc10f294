/* config.h - the configuration of a run.
 *
 * One table, config.def, lists every key with its type, default, range, role
 * and one sentence of help. From it come the struct below, the parser and its
 * checks, --set, the JSON schema for editors, the reference page, the dump and
 * the comparison on resume.
 *
 * Life of a config: bn_config_init() gives the defaults; bn_config_load() or
 * _parse() reads a file over the defaults; bn_config_set() changes single keys;
 * bn_config_check() then looks at how the values fit together, and only a
 * config that passed it may be used. bn_config_clear() frees. The struct owns
 * its strings and lists; change them through bn_config_set() only. Every
 * message names file, key, expected and found; the status is BN_BAD_CONFIG
 * (BN_NO_INPUT for a missing file).
 */
#ifndef BN_CONFIG_CONFIG_H
#define BN_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

/* Largest integer that JSON readers keep exact. */
#define BN_CFG_INT_MAX INT64_C(9007199254740991)

/* Role of a key, and marks on it. */
enum {
    BN_CFG_ARCH = 1 << 0,     /* may not change on resume */
    BN_CFG_SCHEDULE = 1 << 1, /* may change on resume, and changes the result */
    BN_CFG_RUNTIME = 1 << 2,  /* does not change what is learned */
    BN_CFG_NULL = 1 << 8,     /* null is a value */
    BN_CFG_OPEN = 1 << 9,     /* the maximum itself is not allowed */
    BN_CFG_LAYER = 1 << 10,   /* a rule may set it for some layers */
};

/* enum bn_cfg_hidden_act { BN_HIDDEN_ACT_RELU2, BN_HIDDEN_ACT_SILU }, and so
 * on for every ENUM key. */
#define BN_AS_ENUMERATOR(id, word) id,
#define BN_ENUM(section, key, def, role, help)                                                     \
    typedef enum bn_cfg_##key{BN_CHOICES_##key(BN_AS_ENUMERATOR)} bn_cfg_##key;
#include "config/config.def"
#undef BN_AS_ENUMERATOR

/* A RULES key: values of other keys of its section for some layers. */
typedef struct bn_config_rules {
    struct bn_config_rule *items;
    size_t count;
} bn_config_rules;

/* cfg.model.hidden_size, cfg.training.seed, ... */
typedef struct bn_config {
#define BN_SECTION(section, help) struct {
#define BN_SECTION_END(section)                                                                    \
    }                                                                                              \
    section;
#define BN_INT(section, key, def, min, max, role, help)  int64_t key;
#define BN_REAL(section, key, def, min, max, role, help) double key;
#define BN_BOOL(section, key, def, role, help)           bool key;
#define BN_ENUM(section, key, def, role, help)           bn_cfg_##key key;
#define BN_STRING(section, key, def, role, help)         char *key;
#define BN_LIST(section, key, def, role, help)           bn_strings key;
#define BN_RULES(section, key, role, help)               bn_config_rules key;
#define BN_TOP_STRING(key, def, role, help)              char *key;
#include "config/config.def"
} bn_config;

enum { BN_RULE_KEYS_MAX = 16 };
typedef struct bn_config_rule {
    char *match; /* a pattern of module names */
    const struct bn_config_row *keys[BN_RULE_KEYS_MAX];
    int key_count;
    bn_config values; /* only `keys` mean anything; owns nothing */
} bn_config_rule;

/* The defaults. *out need not be initialised; on failure it is {0}. */
bn_status bn_config_init(bn_config *out) BN_MUST_CHECK;
void bn_config_clear(bn_config *config); /* leaves {0}; {0} is fine */
bn_status bn_config_copy(const bn_config *from, bn_config *out) BN_MUST_CHECK;

/* Reads a config over the defaults; *out as for bn_config_init(). Unknown and
 * duplicate keys, wrong types and values out of range are errors; how values
 * fit together is not looked at. `name` stands in front of messages. */
bn_status bn_config_load(const char *path, bn_config *out) BN_MUST_CHECK;
bn_status bn_config_parse(const char *text, const char *name, bn_config *out) BN_MUST_CHECK;

/* One --set: "section.key=value". A list is JSON or words separated by
 * commas. On failure the config is as before. */
bn_status bn_config_set(bn_config *config, const char *assignment) BN_MUST_CHECK;

/* Whether the values fit together. Messages start with `name`. */
bn_status bn_config_check(const bn_config *config, const char *name) BN_MUST_CHECK;

/* The resolved config as JSON, every key in the table's order, doubles exact:
 * parsing it gives an equal config. The caller frees. */
bn_status bn_config_dump(const bn_config *config, char **json) BN_MUST_CHECK;

/* One key of which two configs hold different values. */
typedef struct bn_config_difference {
    const char *key; /* "model.hidden_size" */
    unsigned role;   /* BN_CFG_ARCH, _SCHEDULE or _RUNTIME */
    char *a, *b;     /* the values as JSON text */
} bn_config_difference;

typedef struct bn_config_diff {
    bn_config_difference *items; /* in the table's order */
    int64_t count;
} bn_config_diff;

bn_status bn_config_compare(const bn_config *a, const bn_config *b,
                            bn_config_diff *out) BN_MUST_CHECK;
void bn_config_diff_clear(bn_config_diff *diff);

/* A key of role BN_CFG_ARCH that differs makes this fail, with both values of all
 * such keys in the message: `saved` is the checkpoint's config. */
bn_status bn_config_check_resume(const bn_config *saved, const bn_config *now) BN_MUST_CHECK;

/* Texts made from the table: a JSON schema (draft-07), a reference page in
 * Markdown, and plain text for --help. The caller frees. */
bn_status bn_config_schema(char **json) BN_MUST_CHECK;
bn_status bn_config_reference(char **markdown) BN_MUST_CHECK;
bn_status bn_config_help(char **text) BN_MUST_CHECK;

/* ---- what values mean ---- */

/* Linear layers are quantized at all. */
static inline bool bn_config_quantized(const bn_config *config)
{
    return config->quantization.weight_bits != BN_WEIGHT_BITS_NONE;
}

/* Inputs of quantized layers are quantized too. */
static inline bool bn_config_quantized_activations(const bn_config *config)
{
    return bn_config_quantized(config) &&
           config->quantization.activation_bits != BN_ACTIVATION_BITS_NONE;
}

/* Steps of the float warm-up from the first step on, and of the ramp after it; both 0
 * where nothing is quantized. The ramp may be longer than the run. */
typedef struct bn_phases {
    int64_t warmup, ramp;
} bn_phases;
bn_phases bn_config_phases(const bn_config *config);

/* Strength of quantization at a step, from 0: 0 during the float warm-up, in
 * between on the ramp, 1 from then on and where nothing is quantized. With k the
 * step on a ramp of R and x = (k+1)/(R+1): linear x, cosine (1 - cos(pi x))/2,
 * sigmoid (l(x) - l(0))/(l(1) - l(0)) with l(x) = 1/(1 + exp(-12 (x - 1/2))). */
double bn_config_strength(const bn_config *config, int64_t step);

/* 0 per tensor, -1 per row, else elements per group: the group size of
 * packed files and of the op parameters. */
int64_t bn_config_group_size(const bn_config *config);

int64_t bn_config_act_group_size(const bn_config *config); /* the same of activations */

/* What sets the activations apart from 8-bit absmax codes of whole tokens or
 * tensors, in words ("4-bit activations (quantization.activation_bits)"); NULL:
 * nothing, in any layer. For formats of others, which know no more. */
const char *bn_config_unusual_activations(const bn_config *config);

/* num_key_value_heads with its 0 resolved. */
static inline int64_t bn_config_kv_heads(const bn_config *config)
{
    return config->model.num_key_value_heads ? config->model.num_key_value_heads
                                             : config->model.num_attention_heads;
}

/* A pattern matches a module's dotted name or a run of whole components of it:
 * "lm_head", "layers.0", "down_proj" and "model.layers.*.mlp" all do what they
 * say. */
bool bn_config_matches(const char *pattern, const char *module);
bool bn_config_matches_any(const bn_strings *patterns, const char *module);

/* The config as it holds for one module, or under one rule: with the values of
 * the first rule of quantization.rules that matches the name. The result shares
 * the strings and lists of `config` and is not cleared. */
bn_config bn_config_of_module(const bn_config *config, const char *module);
bn_config bn_config_under(const bn_config *config, const bn_config_rule *rule);

/* modules_to_not_convert covers this module, whatever rules say. */
bool bn_config_keeps_float(const bn_config *config, const char *module);

/* The word of an ENUM value: bn_config_word("model.hidden_act", v) is "relu2";
 * NULL if there is none. */
const char *bn_config_word(const char *key, int value);

#endif
