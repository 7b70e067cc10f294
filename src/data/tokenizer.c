#include "data/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "data/tokenizer_impl.h"

static const bn_tokenizer_kind *const kinds[] = {
    &bn_tokenizer_byte,
};

enum { KINDS = sizeof kinds / sizeof kinds[0] };

bn_status bn_tokenizer_new(const char *name, bn_tokenizer **out)
{
    *out = NULL;
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i]->create(kinds[i], out);

    char known[256] = "";
    for (int i = 0; i < KINDS; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s\"%s\"", i ? ", " : "", kinds[i]->name);
    }
    return bn_error(BN_BAD_CONFIG, "unknown tokenizer \"%s\"; there is: %s", name, known);
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

bn_status bn_tokenizer_encode(const bn_tokenizer *tokenizer, const void *text, size_t bytes,
                              int32_t *ids, size_t *count)
{
    return tokenizer->kind->encode(tokenizer, text, bytes, ids, count);
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
