#include "data/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "data/unicode.h"

bn_status bn_added_tokens_add(bn_added_tokens *set, const bn_added_token *token)
{
    bn_added_token *grown = realloc(set->items, ((size_t)set->count + 1) * sizeof *grown);
    unsigned char *bytes = malloc(token->length);
    if (grown)
        set->items = grown;
    if (!grown || !bytes) {
        free(bytes);
        return bn_error_nomem("added tokens", ((size_t)set->count + 1) * sizeof *grown);
    }
    memcpy(bytes, token->bytes, token->length);
    set->items[set->count] = *token;
    set->items[set->count++].bytes = bytes;
    set->longest = token->length > set->longest ? token->length : set->longest;
    set->strips |= token->lstrip || token->rstrip;
    set->looks_behind |= token->single_word;
    return BN_OK;
}

static int by_first_byte_then_longest(const void *a, const void *b)
{
    const bn_added_token *x = a, *y = b;
    if (x->bytes[0] != y->bytes[0])
        return x->bytes[0] < y->bytes[0] ? -1 : 1;
    if (x->length != y->length)
        return x->length > y->length ? -1 : 1;
    return memcmp(x->bytes, y->bytes, x->length);
}

void bn_added_tokens_sort(bn_added_tokens *set)
{
    int next = 0;
    if (set->count > 0)
        qsort(set->items, (size_t)set->count, sizeof *set->items, by_first_byte_then_longest);
    for (int b = 0; b < 256; b++) {
        set->from[b] = next;
        while (next < set->count && set->items[next].bytes[0] == b)
            next++;
    }
    set->from[256] = next;
}

void bn_added_tokens_clear(bn_added_tokens *set)
{
    for (int i = 0; i < set->count; i++)
        free(set->items[i].bytes);
    free(set->items);
    *set = (bn_added_tokens){0};
}

static bool is_single_word(const unsigned char *text, size_t from, size_t to, size_t end)
{
    uint32_t c;
    if (bn_utf8_decode_last(text, from, &c) > 0 && bn_is_word(c))
        return false;
    return bn_utf8_decode(text + to, end - to, &c) == 0 || !bn_is_word(c);
}

/* The longest token at text[at]. */
static const bn_added_token *token_at(const bn_added_tokens *set, const unsigned char *text,
                                      size_t at, size_t end)
{
    for (int i = set->from[text[at]]; i < set->from[text[at] + 1]; i++) {
        const bn_added_token *token = &set->items[i];
        if (token->length <= end - at && memcmp(text + at, token->bytes, token->length) == 0)
            return token;
    }
    return NULL;
}

const bn_added_token *bn_added_tokens_find(const bn_added_tokens *set, const unsigned char *text,
                                           size_t at, size_t end, size_t *from, size_t *to)
{
    for (size_t i = at; set->count > 0 && i < end;) {
        const bn_added_token *token = token_at(set, text, i, end);
        if (!token) {
            i++;
        } else if (token->single_word && !is_single_word(text, i, i + token->length, end)) {
            i += token->length;
        } else {
            *from = token->lstrip ? bn_utf8_rtrim(text, at, i) : i;
            *to = i + token->length;
            *to = token->rstrip ? bn_utf8_ltrim(text, *to, end) : *to;
            return token;
        }
    }
    return NULL;
}
