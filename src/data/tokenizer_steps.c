/* Reading a tokenizer.json: normalizer and pre-tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "data/base64.h"
#include "data/tokenizer_json_impl.h"

enum { STEPS = 16 }; /* parts of a Sequence, however nested */

typedef struct step_list {
    const cJSON *items[STEPS];
    int count;
} step_list;

/* The steps of an object that may be a Sequence of them under `key`. */
static bn_status flatten(const cJSON *object, const char *what, const char *key, int depth,
                         step_list *list)
{
    const cJSON *step;
    if (!object)
        return BN_OK;
    if (strcmp(bn_json_text_of(object, "type"), "Sequence") != 0) {
        if (list->count == STEPS)
            return bn_error(BN_BAD_DATA, "%s: more than %d steps", what, STEPS);
        list->items[list->count++] = object;
        return BN_OK;
    }
    if (depth == STEPS)
        return bn_error(BN_BAD_DATA, "%s: Sequences nested deeper than %d", what, STEPS);
    if (!cJSON_IsArray(bn_json_member(object, key)))
        return bn_error(BN_BAD_DATA, "%s Sequence: %s: expected an array", what, key);
    cJSON_ArrayForEach(step, bn_json_member(object, key))
        BN_TRY(flatten(step, what, key, depth + 1, list));
    return BN_OK;
}

/* {"String": text} or {"Regex": text} */
static const char *pattern_of(const cJSON *step, bool *literal)
{
    const cJSON *pattern = bn_json_member(step, "pattern");
    *literal = bn_json_member(pattern, "String") != NULL;
    return bn_json_text_of(pattern, *literal ? "String" : "Regex");
}

/* ---- normalizer ---- */

static bn_status read_prepend(bn_json_reader *r, const cJSON *step)
{
    const char *text = bn_json_text_of(step, "prepend");
    if (strcmp(text, BN_SPACE_MARK) == 0)
        r->t->prefix = BN_PREFIX_ALWAYS; /* decoding drops it again */
    bn_json_hash_text(r, text);
    return *text ? bn_normalizer_add_prefix(&r->t->normalizer, text, BN_PREFIX_ALWAYS) : BN_OK;
}

static bn_status read_replace(bn_json_reader *r, const cJSON *step)
{
    bool literal;
    const char *pattern = pattern_of(step, &literal), *content = bn_json_text_of(step, "content");
    r->marks |= literal && strcmp(pattern, " ") == 0 && strcmp(content, BN_SPACE_MARK) == 0;
    bn_json_hash_text(r, pattern);
    bn_json_hash_text(r, content);
    return bn_normalizer_add_replace(&r->t->normalizer, pattern, literal, content);
}

static bn_status read_strip(bn_json_reader *r, const cJSON *step)
{
    const bool left = bn_json_is_true(step, "strip_left");
    const bool right = bn_json_is_true(step, "strip_right");
    bn_json_hash_int(r, left * 2 + right);
    return bn_normalizer_add_strip(&r->t->normalizer, left, right);
}

/* What SentencePiece does, as sentencepiece_model.h writes it down. */
static bn_status read_charsmap(bn_json_reader *r, const cJSON *step)
{
    bn_charsmap map = {.add_dummy_prefix = bn_json_is_true(step, "add_dummy_prefix"),
                       .remove_extra_whitespaces =
                           bn_json_is_true(step, "remove_extra_whitespaces")};
    const char *text = bn_json_text_of(step, "precompiled_charsmap");
    bn_status status = BN_OK;
    unsigned char *bytes = NULL;
    size_t size;
    const cJSON *symbol;
    BN_TRY_OUT(bn_base64_decode(text, &bytes, &size));
    BN_TRY_OUT(bn_charsmap_read(&map, bytes, size));
    cJSON_ArrayForEach(symbol, bn_json_member(step, "user_defined_symbols"))
    {
        if (!cJSON_IsString(symbol) || !*symbol->valuestring) {
            status = bn_error(BN_BAD_DATA, "normalizer SentencePiece, user_defined_symbols: "
                                           "expected strings that are not empty");
            goto out;
        }
        BN_TRY_OUT(bn_strings_add(&map.keep, symbol->valuestring));
        bn_json_hash_text(r, symbol->valuestring);
    }
    bn_json_hash_text(r, text);
    bn_json_hash_int(r, map.add_dummy_prefix * 2 + map.remove_extra_whitespaces);
    r->t->drops_spaces = map.remove_extra_whitespaces;
    if (map.add_dummy_prefix)
        r->t->prefix = BN_PREFIX_FIRST_UNLESS_THERE;
    r->marks = true;
    BN_TRY_OUT(bn_normalizer_add_charsmap(&r->t->normalizer, &map));
out:
    free(bytes);
    bn_charsmap_clear(&map);
    return bn_error_in(status, "normalizer SentencePiece");
}

static bn_status read_normalizer(bn_json_reader *r)
{
    static const char *const forms[] = {
        [BN_NFC] = "NFC", [BN_NFD] = "NFD", [BN_NFKC] = "NFKC", [BN_NFKD] = "NFKD"};
    step_list list = {0};
    BN_TRY(flatten(bn_json_member(r->root, "normalizer"), "normalizer", "normalizers", 0, &list));
    for (int i = 0; i < list.count; i++) {
        const cJSON *step = list.items[i];
        const char *type = bn_json_text_of(step, "type");
        int form = 0;
        while (form < 4 && strcmp(type, forms[form]) != 0)
            form++;
        bn_json_hash_text(r, type);
        if (form < 4)
            BN_TRY(bn_normalizer_add_form(&r->t->normalizer, (bn_normal_form)form));
        else if (strcmp(type, "Lowercase") == 0)
            BN_TRY(bn_normalizer_add_lowercase(&r->t->normalizer));
        else if (strcmp(type, "Prepend") == 0)
            BN_TRY(read_prepend(r, step));
        else if (strcmp(type, "Replace") == 0)
            BN_TRY(bn_error_in(read_replace(r, step), "normalizer Replace"));
        else if (strcmp(type, "Strip") == 0)
            BN_TRY(read_strip(r, step));
        else if (strcmp(type, "SentencePiece") == 0 && list.count == 1)
            BN_TRY(read_charsmap(r, step));
        else
            return bn_json_not_supported("normalizer", type,
                                         "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, "
                                         "Strip, Sequence");
    }
    return BN_OK;
}

/* ---- pre-tokenizer ---- */

static bn_status add_stage(bn_json_reader *r, const char *pattern, bool literal,
                           bn_split_behavior behavior, bool invert)
{
    bn_json_hash_text(r, pattern);
    bn_json_hash_int(r, behavior * 2 + invert);
    return bn_splitter_add(&r->t->splitter, pattern, literal, behavior, invert);
}

static bn_status read_split(bn_json_reader *r, const cJSON *step)
{
    static const char *const names[] = {
        [BN_SPLIT_ISOLATED] = "Isolated",
        [BN_SPLIT_REMOVED] = "Removed",
        [BN_SPLIT_WITH_PREVIOUS] = "MergedWithPrevious",
        [BN_SPLIT_WITH_NEXT] = "MergedWithNext",
        [BN_SPLIT_CONTIGUOUS] = "Contiguous",
    };
    enum { BEHAVIORS = sizeof names / sizeof names[0] };
    const char *name = bn_json_text_of(step, "behavior");
    int behavior = 0;
    bool literal;
    const char *pattern = pattern_of(step, &literal);
    while (behavior < BEHAVIORS && strcmp(name, names[behavior]) != 0)
        behavior++;
    if (behavior == BEHAVIORS)
        return bn_json_not_supported(
            "pre_tokenizer Split, behavior", name,
            "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
    if (literal && r->marks && strcmp(pattern, " ") == 0)
        return BN_OK; /* the normalizer has left none */
    return bn_error_in(add_stage(r, pattern, literal, (bn_split_behavior)behavior,
                                 bn_json_is_true(step, "invert")),
                       "pre_tokenizer Split");
}

static bn_status read_byte_level(bn_json_reader *r, const cJSON *step, bool first)
{
    r->byte_level = true;

    if (bn_json_is_true(step, "add_prefix_space")) {
        if (!first)
            return bn_json_not_supported("pre_tokenizer ByteLevel, add_prefix_space",
                                         "true behind another one", "false");
        r->t->prefix = BN_PREFIX_UNLESS_THERE;
        r->re_prefixes = true;
        bn_json_hash_text(r, "add_prefix_space");
        BN_TRY(bn_normalizer_add_prefix(&r->t->normalizer, " ", BN_PREFIX_UNLESS_THERE));
    }
    if (cJSON_IsFalse(bn_json_member(step, "use_regex")))
        return BN_OK;
    return add_stage(r, bn_gpt2_pattern, false, BN_SPLIT_ISOLATED, false);
}

static bn_status read_metaspace(bn_json_reader *r, const cJSON *step)
{
    const char *scheme = bn_json_text_of(step, "prepend_scheme");
    bn_normalizer *normalizer = &r->t->normalizer;
    bn_prefix_rule rule = BN_PREFIX_NEVER;
    if (strcmp(bn_json_text_of(step, "replacement"), BN_SPACE_MARK) != 0)
        return bn_json_not_supported("pre_tokenizer Metaspace, replacement",
                                     bn_json_text_of(step, "replacement"), "U+2581");
    if (strcmp(scheme, "") == 0)
        scheme = cJSON_IsFalse(bn_json_member(step, "add_prefix_space")) ? "never" : "always";
    if (strcmp(scheme, "always") == 0)
        rule = BN_PREFIX_UNLESS_THERE;
    else if (strcmp(scheme, "first") == 0)
        rule = BN_PREFIX_FIRST_UNLESS_THERE;
    else if (strcmp(scheme, "never") != 0)
        return bn_json_not_supported("pre_tokenizer Metaspace, prepend_scheme", scheme,
                                     "always, first, never");
    BN_TRY(bn_normalizer_add_replace(normalizer, " ", true, BN_SPACE_MARK));
    if (rule != BN_PREFIX_NEVER) {
        BN_TRY(bn_normalizer_add_prefix(normalizer, BN_SPACE_MARK, rule));
        r->t->prefix = rule;
        r->re_prefixes = true;
    }
    r->marks = true;
    r->spaces_split = !cJSON_IsFalse(bn_json_member(step, "split"));
    bn_json_hash_int(r, rule * 2 + r->spaces_split);
    return BN_OK;
}

static bn_status read_pre_tokenizer(bn_json_reader *r)
{
    step_list list = {0};
    BN_TRY(flatten(bn_json_member(r->root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", 0,
                   &list));
    for (int i = 0; i < list.count; i++) {
        const cJSON *step = list.items[i];
        const char *type = bn_json_text_of(step, "type");
        if (r->byte_level)
            return bn_error(BN_BAD_DATA, "pre_tokenizer: \"%.60s\" behind ByteLevel", type);
        bn_json_hash_text(r, type);
        if (strcmp(type, "Split") == 0)
            BN_TRY(read_split(r, step));
        else if (strcmp(type, "Digits") == 0)
            BN_TRY(add_stage(r, "\\p{N}", false,
                             bn_json_is_true(step, "individual_digits") ? BN_SPLIT_ISOLATED
                                                                        : BN_SPLIT_CONTIGUOUS,
                             false));
        else if (strcmp(type, "ByteLevel") == 0)
            BN_TRY(read_byte_level(r, step, i == 0));
        else if (strcmp(type, "Metaspace") == 0 && i == 0)
            BN_TRY(read_metaspace(r, step));
        else
            return bn_json_not_supported("pre_tokenizer", type,
                                         "Split, Digits, ByteLevel, Metaspace as the first");
    }
    return BN_OK;
}

bn_status bn_json_read_steps(bn_json_reader *r)
{
    BN_TRY(read_normalizer(r));
    BN_TRY(read_pre_tokenizer(r));
    if (r->byte_level && r->marks)
        return bn_json_not_supported("normalizer", "Replace of a space by U+2581",
                                     "others, where the pre-tokenizer is ByteLevel");
    if (!r->byte_level && !r->marks)
        return bn_error(BN_BAD_DATA, "expected pre_tokenizer ByteLevel or Metaspace, or normalizer "
                                     "Replace of a space by U+2581");
    if (r->t->normalizer.growth == 0)
        r->t->normalizer.growth = 1;
    return BN_OK;
}
