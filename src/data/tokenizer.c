#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "data/sentencepiece_model.h"
#include "data/tokenizer_impl.h"

enum { FILE_LIMIT = 256 << 20 }; /* bytes */

bn_status bn_tokenizer_new(const char *source, bn_tokenizer **out)
{
    *out = NULL;
    if (source[0] == '{')
        return bn_tokenizer_bpe.create(&bn_tokenizer_bpe, source, out);
    if (strcmp(source, bn_tokenizer_byte.name) == 0)
        return bn_tokenizer_byte.create(&bn_tokenizer_byte, source, out);
    return bn_error(BN_BAD_CONFIG,
                    "unknown tokenizer \"%.60s\"; there is: \"byte\", or the path of a "
                    "tokenizer.json or tokenizer.model",
                    source);
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t length = strlen(name), n = strlen(suffix);
    return length > n && strcmp(name + length - n, suffix) == 0;
}

bool bn_tokenizer_is_path(const char *name)
{
    return ends_with(name, ".json") || ends_with(name, ".model");
}

static bn_status new_from_json(const char *text, size_t size, bn_tokenizer **out)
{
    const size_t start = strspn(text, " \t\r\n");
    if (text[start] != '{')
        return bn_error(BN_BAD_DATA, "expected a JSON object");
    if (strlen(text) != size)
        return bn_error(BN_BAD_DATA, "a NUL byte at offset %zu", strlen(text));
    return bn_tokenizer_new(text + start, out);
}

static bn_status new_from_model(const void *model, size_t size, bn_tokenizer **out)
{
    char *json;
    BN_TRY(bn_sentencepiece_to_json(model, size, &json));
    bn_status status = bn_tokenizer_new(json, out);
    free(json);
    return status;
}

bn_status bn_tokenizer_open(const char *name_or_path, bn_tokenizer **out)
{
    char *text;
    size_t size;
    *out = NULL;
    if (!bn_tokenizer_is_path(name_or_path))
        return bn_tokenizer_new(name_or_path, out);
    BN_TRY(bn_fs_read(name_or_path, FILE_LIMIT, &text, &size));
    bn_status status = ends_with(name_or_path, ".model") ? new_from_model(text, size, out)
                                                         : new_from_json(text, size, out);
    free(text);
    return bn_error_in(status, name_or_path);
}

void bn_tokenizer_free(bn_tokenizer *tokenizer)
{
    if (tokenizer)
        tokenizer->kind->destroy(tokenizer);
}

const char *bn_tokenizer_name(const bn_tokenizer *tokenizer)
{
    return tokenizer->kind->name;
}

const char *bn_tokenizer_source(const bn_tokenizer *tokenizer)
{
    return tokenizer->kind->source ? tokenizer->kind->source(tokenizer) : tokenizer->kind->name;
}

int64_t bn_tokenizer_vocab_size(const bn_tokenizer *tokenizer)
{
    return tokenizer->vocab_size;
}

uint64_t bn_tokenizer_hash(const bn_tokenizer *tokenizer)
{
    return tokenizer->hash;
}

bool bn_tokenizer_is_bytes(const bn_tokenizer *tokenizer)
{
    return tokenizer->kind->is_bytes;
}

bn_status bn_ids_add(bn_ids *list, const int32_t *ids, size_t count)
{
    if (count > list->capacity - list->count) {
        const size_t capacity = 2 * list->capacity + count + 1024;
        if (list->fixed)
            return bn_error(BN_FAIL, "more than %zu tokens", list->capacity);
        int32_t *grown = realloc(list->items, capacity * sizeof *grown);
        if (!grown)
            return bn_error_nomem("tokens", capacity * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    memcpy(list->items + list->count, ids, count * sizeof *ids);
    list->count += count;
    return BN_OK;
}

void bn_ids_clear(bn_ids *list)
{
    if (!list->fixed)
        free(list->items);
    *list = (bn_ids){0};
}

size_t bn_tokenizer_max_tokens(const bn_tokenizer *tokenizer, size_t bytes)
{
    return tokenizer->kind->max_tokens ? tokenizer->kind->max_tokens(tokenizer, bytes) : bytes;
}

bn_status bn_tokenizer_encode(const bn_tokenizer *tokenizer, const void *text, size_t bytes,
                              int32_t *ids, size_t *count)
{
    bn_ids list = {ids, 0, bn_tokenizer_max_tokens(tokenizer, bytes), true};
    const bn_text_part all = {.text = text, .bytes = bytes, .to = bytes, .fresh = true};
    bn_text_part rest;
    *count = 0;
    if (bytes > 0)
        BN_TRY(bn_tokenizer_encode_part(tokenizer, &all, &list, &rest));
    *count = list.count;
    return BN_OK;
}

bn_status bn_tokenizer_encode_part(const bn_tokenizer *tokenizer, const bn_text_part *part,
                                   bn_ids *out, bn_text_part *rest)
{
    return tokenizer->kind->encode_part(tokenizer, part, out, rest);
}

size_t bn_tokenizer_cut(const bn_tokenizer *tokenizer, const void *text, size_t bytes, size_t near)
{
    if (near >= bytes)
        return bytes;
    return tokenizer->kind->cut ? tokenizer->kind->cut(tokenizer, text, bytes, near) : near;
}

const unsigned char *bn_tokenizer_piece(const bn_tokenizer *tokenizer, int32_t id, size_t *length)
{
    *length = 0;
    if (id < 0 || id >= tokenizer->vocab_size)
        return NULL;
    return tokenizer->kind->piece(tokenizer, id, length);
}

bn_status bn_tokenizer_decode(const bn_tokenizer *tokenizer, const int32_t *ids, size_t count,
                              void *text, size_t capacity, size_t *bytes)
{
    unsigned char *to = text;
    size_t used = 0;
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const unsigned char *piece = bn_tokenizer_piece(tokenizer, ids[i], &length);
        if (!piece)
            return bn_error(BN_BAD_DATA, "token %zu is %d, tokenizer \"%s\" has ids 0..%lld", i,
                            ids[i], tokenizer->kind->name, (long long)tokenizer->vocab_size - 1);
        if (length > 0 && piece[0] == ' ' && tokenizer->kind->starts_text &&
            tokenizer->kind->starts_text(tokenizer, ids, i, used == 0)) {
            piece++;
            length--;
        }
        if (length > capacity - used)
            return bn_error(BN_FAIL, "decoding %zu tokens needs more than %zu bytes", count,
                            capacity);
        if (length > 0)
            memcpy(to + used, piece, length);
        used += length;
    }
    *bytes = used;
    return BN_OK;
}

int64_t bn_tokenizer_count_bytes(const bn_tokenizer *tokenizer, const int32_t *ids, size_t count)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length;
        bn_tokenizer_piece(tokenizer, ids[i], &length);
        bytes += (int64_t)length;
    }
    return bytes;
}
