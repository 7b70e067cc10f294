#include "data/normalizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "data/unicode.h"

enum { MOST_GROWTH = 1 << 20 };

typedef struct stage {
    const bn_view *in;
    bn_view *out;
    const bn_window *window;
    bn_split_work *split;
} stage;

struct bn_normalizer_step {
    bn_status (*run)(const bn_normalizer_step *step, stage *s);
    utf8proc_option_t form;
    char *text; /* prefix, or content of a replacement */
    bn_prefix_rule rule;
    bool left, right;
    bn_splitter pattern;
    bn_charsmap charsmap;
};

/* ---- views ---- */

void bn_view_clear(bn_view *view)
{
    free(view->bytes);
    free(view->raw);
    *view = (bn_view){0};
}

/* Room for `more` bytes and the place behind them. */
static bn_status view_reserve(bn_view *view, size_t more)
{
    const size_t needed = view->length + more + 1;
    if (needed <= view->capacity)
        return BN_OK;
    const size_t capacity = 2 * needed;
    unsigned char *bytes = realloc(view->bytes, capacity);
    if (bytes)
        view->bytes = bytes;
    uint32_t *raw = realloc(view->raw, capacity * sizeof *raw);
    if (raw)
        view->raw = raw;
    if (!bytes || !raw)
        return bn_error_nomem("a normalized text", capacity * (sizeof *raw + 1));
    view->capacity = capacity;
    return BN_OK;
}

bn_status bn_view_add(bn_view *view, const void *bytes, size_t length, uint32_t raw)
{
    BN_TRY(view_reserve(view, length));
    if (length == 0)
        return BN_OK;
    memcpy(view->bytes + view->length, bytes, length);
    for (size_t i = 0; i < length; i++)
        view->raw[view->length + i] = BN_NO_PLACE;
    view->raw[view->length] = raw;
    view->length += length;
    return BN_OK;
}

/* in[from..to-1] as it is. */
static bn_status view_copy(stage *s, size_t from, size_t to)
{
    bn_view *out = s->out;
    BN_TRY(view_reserve(out, to - from));
    if (to > from) {
        memcpy(out->bytes + out->length, s->in->bytes + from, to - from);
        memcpy(out->raw + out->length, s->in->raw + from, (to - from) * sizeof *out->raw);
        out->length += to - from;
    }
    return BN_OK;
}

/* ---- steps ---- */

/* bytes[from..to-1] is UTF-8. */
static bn_status normal_form(const bn_normalizer_step *step, stage *s, size_t from, size_t to)
{
    utf8proc_uint8_t *text = NULL;
    const utf8proc_ssize_t n =
        utf8proc_map(s->in->bytes + from, (utf8proc_ssize_t)(to - from), &text, step->form);
    bn_status status = n < 0 ? bn_error(BN_FAIL, "a normal form: %s", utf8proc_errmsg(n))
                             : bn_view_add(s->out, text, (size_t)n, s->in->raw[from]);
    free(text);
    return status;
}

/* Nothing joins what begins with an ASCII character to what is in front of it.
 * Runs of others are normalized together with the character in front. */
static bn_status run_form(const bn_normalizer_step *step, stage *s)
{
    const bn_view *in = s->in;
    size_t at = 0;
    while (at < in->length) {
        size_t end = at;
        while (end < in->length && in->bytes[end] < 0x80)
            end++;
        const bool more = end < in->length;
        const size_t plain = more && end > at ? end - 1 : end;
        BN_TRY(view_copy(s, at, plain));
        if (!more)
            break;
        for (at = plain; end < in->length && in->bytes[end] >= 0x80;)
            end++;
        while (at < end) {
            const size_t valid = bn_utf8_valid(in->bytes + at, end - at);
            if (valid > 0)
                BN_TRY(normal_form(step, s, at, at + valid));
            at += valid;
            if (at < end) {
                BN_TRY(view_copy(s, at, at + 1));
                at++;
            }
        }
    }
    return BN_OK;
}

static bn_status run_lowercase(const bn_normalizer_step *step, stage *s)
{
    const bn_view *in = s->in;
    (void)step;
    for (size_t at = 0; at < in->length;) {
        uint32_t c;
        unsigned char small[8];
        const size_t n = bn_utf8_decode(in->bytes + at, in->length - at, &c);
        if (n == 0) {
            BN_TRY(view_copy(s, at, at + 1));
            at++;
            continue;
        }
        size_t m = bn_utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), small);
        if (c == 0x130) /* the one character that becomes two: i and a dot above */
            memcpy(small, "i\xcc\x87", m = 3);
        BN_TRY(bn_view_add(s->out, small, m, in->raw[at]));
        at += n;
    }
    return BN_OK;
}

static bool starts_with(const bn_view *view, const char *text)
{
    const size_t n = strlen(text);
    return n <= view->length && memcmp(view->bytes, text, n) == 0;
}

static bn_status run_prefix(const bn_normalizer_step *step, stage *s)
{
    const bool there = starts_with(s->in, step->text);
    const bool wanted =
        s->window->fresh && s->in->length > 0 &&
        (step->rule == BN_PREFIX_ALWAYS || (step->rule == BN_PREFIX_UNLESS_THERE && !there) ||
         (step->rule == BN_PREFIX_FIRST_UNLESS_THERE && s->window->first && !there));
    if (!wanted)
        return view_copy(s, 0, s->in->length);
    BN_TRY(bn_view_add(s->out, step->text, strlen(step->text), s->in->raw[0]));
    BN_TRY(view_copy(s, 0, s->in->length));
    s->out->raw[strlen(step->text)] = BN_NO_PLACE;
    return BN_OK;
}

static bn_status run_strip(const bn_normalizer_step *step, stage *s)
{
    const bn_view *in = s->in;
    size_t from = 0, to = in->length;
    if (step->left && s->window->fresh)
        from = bn_utf8_ltrim(in->bytes, from, to);
    if (step->right && s->window->last)
        to = bn_utf8_rtrim(in->bytes, from, to);
    return view_copy(s, from, to);
}

static bn_status run_replace(const bn_normalizer_step *step, stage *s)
{
    const bn_view *in = s->in;
    for (size_t at = 0; at < in->length;) {
        const size_t valid = bn_utf8_valid(in->bytes + at, in->length - at);
        bn_split split = bn_split_start(&step->pattern, 0, s->split, in->bytes + at, valid);
        for (;;) {
            size_t start, end;
            bool match;
            BN_TRY(bn_split_scan(&split, &start, &end, &match));
            if (start == end && !match)
                break;
            if (match)
                BN_TRY(bn_view_add(s->out, step->text, strlen(step->text), in->raw[at + start]));
            else
                BN_TRY(view_copy(s, at + start, at + end));
        }
        at += valid;
        if (at < in->length) {
            BN_TRY(view_copy(s, at, at + 1));
            at++;
        }
    }
    return BN_OK;
}

/* SentencePiece's normalizer. The text may be taken up wherever what is in
 * front of a place does not end with a space: that is what fresh being false
 * stands for. */
static bn_status run_charsmap(const bn_normalizer_step *step, stage *s)
{
    static const char mark[] = BN_SPACE_MARK;
    const bn_charsmap *map = &step->charsmap;
    const bn_view *in = s->in;
    const bool extra = map->remove_extra_whitespaces;
    bool after_space = extra && s->window->fresh, begun = !s->window->fresh;
    for (size_t at = 0; at < in->length;) {
        const unsigned char *text;
        size_t length;
        uint32_t raw = after_space && extra ? BN_NO_PLACE : in->raw[at];
        const size_t read = bn_charsmap_next(map, in->bytes + at, in->length - at, &text, &length);
        while (after_space && length > 0 && *text == ' ') {
            text++;
            length--;
        }
        if (!begun && (length > 0 || !extra)) {
            if (map->add_dummy_prefix) {
                BN_TRY(bn_view_add(s->out, mark, BN_SPACE_MARK_BYTES, in->raw[0]));
                raw = BN_NO_PLACE;
            } else {
                raw = in->raw[0];
            }
            begun = true;
        }
        for (size_t i = 0; i < length; i++, raw = BN_NO_PLACE)
            BN_TRY(text[i] == ' ' ? bn_view_add(s->out, mark, BN_SPACE_MARK_BYTES, raw)
                                  : bn_view_add(s->out, text + i, 1, raw));
        if (extra && length > 0)
            after_space = text[length - 1] == ' ';
        at += read;
    }
    if (extra && s->window->last)
        while (s->out->length >= BN_SPACE_MARK_BYTES &&
               memcmp(s->out->bytes + s->out->length - BN_SPACE_MARK_BYTES, mark,
                      BN_SPACE_MARK_BYTES) == 0)
            s->out->length -= BN_SPACE_MARK_BYTES;
    return BN_OK;
}

/* ---- building ---- */

/* `growth`: bytes that one byte becomes at most. */
static bn_status add_step(bn_normalizer *normalizer,
                          bn_status (*run)(const bn_normalizer_step *step, stage *s), size_t growth,
                          bn_normalizer_step **out)
{
    *out = NULL;
    if (normalizer->growth == 0)
        normalizer->growth = 1;
    if (growth > MOST_GROWTH / normalizer->growth)
        return bn_error(BN_BAD_DATA, "normalizer: makes a text more than %d times longer",
                        MOST_GROWTH);
    normalizer->growth *= growth > 1 ? growth : 1;
    if (normalizer->count == BN_NORMALIZER_STEPS)
        return bn_error(BN_BAD_DATA, "normalizer: more than %d steps", BN_NORMALIZER_STEPS);
    bn_normalizer_step *step = calloc(1, sizeof *step);
    if (!step)
        return bn_error_nomem("a normalizer", sizeof *step);
    step->run = run;
    normalizer->steps[normalizer->count++] = step;
    *out = step;
    return BN_OK;
}

bn_status bn_normalizer_add_form(bn_normalizer *normalizer, bn_normal_form form)
{
    static const utf8proc_option_t options[] = {
        [BN_NFC] = UTF8PROC_COMPOSE,
        [BN_NFD] = UTF8PROC_DECOMPOSE,
        [BN_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [BN_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    bn_normalizer_step *step;
    BN_TRY(add_step(normalizer, run_form, 12, &step)); /* U+FDFA: 33 bytes of 3 */
    step->form = UTF8PROC_STABLE | options[form];
    return BN_OK;
}

bn_status bn_normalizer_add_lowercase(bn_normalizer *normalizer)
{
    bn_normalizer_step *step;
    return add_step(normalizer, run_lowercase, 2, &step);
}

bn_status bn_normalizer_add_prefix(bn_normalizer *normalizer, const char *prefix,
                                   bn_prefix_rule rule)
{
    bn_normalizer_step *step;
    BN_TRY(add_step(normalizer, run_prefix, strlen(prefix) + 1, &step));
    step->rule = rule;
    step->text = bn_strdup(prefix);
    return step->text ? BN_OK : BN_FAIL;
}

bn_status bn_normalizer_add_strip(bn_normalizer *normalizer, bool left, bool right)
{
    bn_normalizer_step *step;
    BN_TRY(add_step(normalizer, run_strip, 1, &step));
    step->left = left;
    step->right = right;
    normalizer->strips = true;
    return BN_OK;
}

bn_status bn_normalizer_add_replace(bn_normalizer *normalizer, const char *pattern, bool literal,
                                    const char *content)
{
    bn_normalizer_step *step;
    BN_TRY(add_step(normalizer, run_replace, strlen(content), &step));
    step->text = bn_strdup(content);
    if (!step->text)
        return BN_FAIL;
    BN_TRY(bn_splitter_add(&step->pattern, pattern, literal, BN_SPLIT_ISOLATED, false));
    return step->pattern.looks_behind
               ? bn_error(BN_BAD_DATA, "normalizer Replace: the pattern \"%.200s\" looks behind",
                          pattern)
               : BN_OK;
}

bn_status bn_normalizer_add_charsmap(bn_normalizer *normalizer, bn_charsmap *charsmap)
{
    bn_normalizer_step *step;
    BN_TRY(add_step(normalizer, run_charsmap, 4 * bn_charsmap_longest(charsmap), &step));
    step->charsmap = *charsmap;
    *charsmap = (bn_charsmap){0};
    normalizer->strips |= step->charsmap.remove_extra_whitespaces;
    return BN_OK;
}

void bn_normalizer_clear(bn_normalizer *normalizer)
{
    for (int i = 0; i < normalizer->count; i++) {
        bn_splitter_clear(&normalizer->steps[i]->pattern);
        bn_charsmap_clear(&normalizer->steps[i]->charsmap);
        free(normalizer->steps[i]->text);
        free(normalizer->steps[i]);
    }
    *normalizer = (bn_normalizer){0};
}

void bn_normalizer_work_clear(bn_normalizer_work *work)
{
    bn_view_clear(&work->views[0]);
    bn_view_clear(&work->views[1]);
}

bn_status bn_normalizer_run(const bn_normalizer *normalizer, const bn_window *window,
                            bn_normalizer_work *work, bn_split_work *split, const bn_view **out)
{
    bn_view *now = &work->views[0], *next = &work->views[1];
    now->length = 0;
    BN_TRY(view_reserve(now, window->length));
    memcpy(now->bytes, window->text, window->length);
    for (size_t i = 0; i <= window->length; i++)
        now->raw[i] = (uint32_t)i;
    now->length = window->length;
    for (int i = 0; i < normalizer->count; i++) {
        next->length = 0;
        BN_TRY(view_reserve(next, 0));
        stage s = {now, next, window, split};
        BN_TRY(normalizer->steps[i]->run(normalizer->steps[i], &s));
        next->raw[next->length] = (uint32_t)window->length;
        bn_view *swap = now;
        now = next;
        next = swap;
    }
    if (window->fresh && now->length > 0) /* what was dropped in front belongs to it */
        now->raw[0] = 0;
    *out = now;
    return BN_OK;
}
