#include "data/splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum {
    PATTERN_LIMIT = 1 << 16, /* bytes of a pattern */
    STEP_LIMIT = 5000000,    /* of one match */
    HEAP_LIMIT_KIB = 64 << 10,
    JIT_STACK_LIMIT = 16 << 20,
};

struct bn_split_stage {
    pcre2_code *code;
    bn_split_behavior behavior;
    bool invert;
};

struct bn_split_work {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* What \s means in the dialect of tokenizer.json: Unicode's White_Space. The
 * library's own \s has U+180E as well. */
#define SPACES                                                                                     \
    "\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
    "\\x{3000}"

/* \s and \S spelled out, outside of classes and inside (\S inside stays). */
static bn_status translate(const char *pattern, char **out)
{
    bn_text text = {0};
    bool in_class = false;
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\' && p[1] == 's') {
            bn_text_add(&text, in_class ? SPACES : "[" SPACES "]");
            p++;
        } else if (*p == '\\' && p[1] == 'S' && !in_class) {
            bn_text_add(&text, "[^" SPACES "]");
            p++;
        } else if (*p == '\\' && p[1]) {
            bn_text_add_bytes(&text, p++, 2);
        } else {
            if (*p == '[' && !in_class) {
                in_class = true;
                bn_text_add_bytes(&text, p, 1);
                if (p[1] == '^')
                    bn_text_add_bytes(&text, ++p, 1);
                if (p[1] == ']')
                    bn_text_add_bytes(&text, ++p, 1);
                continue;
            }
            in_class = in_class && *p != ']';
            bn_text_add_bytes(&text, p, 1);
        }
    }
    return bn_text_take(&text, out);
}

static bn_status compile(const char *pattern, bool literal, pcre2_code **out)
{
    const uint32_t options =
        literal ? PCRE2_UTF | PCRE2_LITERAL
                : PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR reason[128];
    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &code, &at, NULL);
    if (!*out) {
        pcre2_get_error_message(code, reason, sizeof reason);
        return bn_error(BN_BAD_DATA, "the pattern \"%.200s\" does not compile: %s (at byte %zu)",
                        pattern, (const char *)reason, (size_t)at);
    }
    /* Without compiled code the interpreter does the same, slower. */
    (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
    return BN_OK;
}

bn_status bn_splitter_add(bn_splitter *splitter, const char *pattern, bool literal,
                          bn_split_behavior behavior, bool invert)
{
    char *text = NULL;
    uint32_t behind = 0;
    if (splitter->count == BN_SPLIT_STAGES)
        return bn_error(BN_BAD_DATA, "more than %d patterns", BN_SPLIT_STAGES);
    if (!*pattern || strlen(pattern) > PATTERN_LIMIT)
        return bn_error(BN_BAD_DATA, "a pattern of %zu bytes; expected 1 to %d", strlen(pattern),
                        PATTERN_LIMIT);
    struct bn_split_stage *stage = calloc(1, sizeof *stage);
    if (!stage)
        return bn_error_nomem("a pattern", sizeof *stage);
    stage->behavior = behavior;
    stage->invert = invert;
    splitter->stages[splitter->count++] = stage;
    if (literal)
        return compile(pattern, true, &stage->code);
    BN_TRY(translate(pattern, &text));
    bn_status status = compile(text, false, &stage->code);
    free(text);
    BN_TRY(status);
    pcre2_pattern_info(stage->code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
    splitter->looks_behind |= behind > 0;
    return BN_OK;
}

void bn_splitter_clear(bn_splitter *splitter)
{
    for (int i = 0; i < splitter->count; i++) {
        pcre2_code_free(splitter->stages[i]->code);
        free(splitter->stages[i]);
    }
    *splitter = (bn_splitter){0};
}

bn_status bn_split_work_new(bn_split_work **out)
{
    bn_split_work *work = calloc(1, sizeof *work);
    *out = NULL;
    if (!work)
        return bn_error_nomem("a matcher", sizeof *work);
    work->match = pcre2_match_data_create(1, NULL);
    work->context = pcre2_match_context_create(NULL);
    work->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_LIMIT, NULL);
    /* Where the library compiles nothing there is no stack. Where it does, less
     * memory must not change what can be matched. */
    uint32_t compiles = 0;
    pcre2_config(PCRE2_CONFIG_JIT, &compiles);
    if (!work->match || !work->context || (compiles && !work->stack)) {
        bn_split_work_free(work);
        return bn_error_nomem("a matcher", JIT_STACK_LIMIT);
    }
    pcre2_set_match_limit(work->context, STEP_LIMIT);
    pcre2_set_heap_limit(work->context, HEAP_LIMIT_KIB);
    if (work->stack)
        pcre2_jit_stack_assign(work->context, NULL, work->stack);
    *out = work;
    return BN_OK;
}

void bn_split_work_free(bn_split_work *work)
{
    if (!work)
        return;
    pcre2_match_data_free(work->match);
    pcre2_match_context_free(work->context);
    pcre2_jit_stack_free(work->stack);
    free(work);
}

bn_split bn_split_start(const bn_splitter *splitter, int stage, bn_split_work *work,
                        const unsigned char *text, size_t length)
{
    return (bn_split){
        .stage = splitter->stages[stage], .work = work, .text = text, .length = length};
}

/* Searches; false in *found when there is no match. */
static bn_status search(bn_split *s, size_t *start, size_t *end, bool *found)
{
    const int rc = pcre2_match(s->stage->code, s->text, s->length, s->search, PCRE2_NO_UTF_CHECK,
                               s->work->match, s->work->context);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH)
        return BN_OK;
    if (rc < 0) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(rc, reason, sizeof reason);
        return bn_error(BN_BAD_DATA, "the tokenizer's pattern cannot be matched on this text: %s",
                        (const char *)reason);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->work->match);
    *start = range[0];
    *end = range[1];
    if (*start < s->search || *end < *start)
        return bn_error(BN_BAD_DATA, "the tokenizer's pattern matches backwards");
    return BN_OK;
}

bn_status bn_split_scan(bn_split *s, size_t *start, size_t *end, bool *match)
{
    *start = *end = s->at;
    *match = s->match_end > 0;
    if (s->match_end) { /* found together with the gap in front of it */
        *end = s->at = s->match_end;
        s->match_end = 0;
        return BN_OK;
    }
    while (!s->done) {
        size_t from = 0, to = 0;
        bool found = false;
        if (s->search < s->length)
            BN_TRY(search(s, &from, &to, &found));
        if (!found) {
            s->done = true;
            break;
        }
        if (from == to) { /* an empty match cuts */
            s->search = from < s->length ? from + bn_utf8_length(s->text[from]) : s->length;
            if (from == s->at)
                continue;
            *end = s->at = from;
            return BN_OK;
        }
        s->search = to;
        *match = from == s->at;
        if (!*match) {
            s->match_end = to;
            to = from;
        }
        *end = s->at = to;
        return BN_OK;
    }
    *end = s->at = s->length;
    return BN_OK;
}

/* A piece with `invert` done, the one that was looked at first. */
static bn_status take(bn_split *s, size_t *start, size_t *end, bool *match)
{
    if (s->seen) {
        s->seen = false;
        *start = s->seen_start;
        *end = s->seen_end;
        *match = s->seen_match;
        return BN_OK;
    }
    BN_TRY(bn_split_scan(s, start, end, match));
    *match ^= s->stage->invert;
    return BN_OK;
}

/* Joins the next piece to the one that ends at *end if it is a match as `kind`
 * says. */
static bn_status join(bn_split *s, size_t *end, bool kind, bool *joined)
{
    BN_TRY(take(s, &s->seen_start, &s->seen_end, &s->seen_match));
    *joined = s->seen_start < s->seen_end && s->seen_match == kind;
    s->seen = !*joined;
    if (*joined)
        *end = s->seen_end;
    return BN_OK;
}

bn_status bn_split_next(bn_split *s, size_t *start, size_t *end)
{
    bool match, joined;
    BN_TRY(take(s, start, end, &match));
    switch (s->stage->behavior) {
    case BN_SPLIT_ISOLATED:
        break;
    case BN_SPLIT_REMOVED:
        while (match && *start < *end)
            BN_TRY(take(s, start, end, &match));
        break;
    case BN_SPLIT_WITH_PREVIOUS:
        if (!match && *start < *end)
            BN_TRY(join(s, end, true, &joined));
        break;
    case BN_SPLIT_WITH_NEXT:
        if (match)
            BN_TRY(join(s, end, false, &joined));
        break;
    case BN_SPLIT_CONTIGUOUS:
        for (joined = *start < *end; joined;)
            BN_TRY(join(s, end, match, &joined));
        break;
    }
    return BN_OK;
}
