/* The byte tokenizer: id = byte. One constant object, nothing to allocate. */
#include "data/tokenizer_impl.h"

enum { BYTES = 256 };

static unsigned char const pieces[BYTES] = {
#define ROW(r)                                                                                     \
    r, r + 1, r + 2, r + 3, r + 4, r + 5, r + 6, r + 7, r + 8, r + 9, r + 10, r + 11, r + 12,      \
        r + 13, r + 14, r + 15
    ROW(0),   ROW(16),  ROW(32),  ROW(48),  ROW(64),  ROW(80),  ROW(96),  ROW(112),
    ROW(128), ROW(144), ROW(160), ROW(176), ROW(192), ROW(208), ROW(224), ROW(240),
#undef ROW
};

static bn_status byte_create(const bn_tokenizer_kind *kind, const char *source, bn_tokenizer **out)
{
    /* The hash is a fixed number: the mapping has no parameters. "byte" in ASCII. */
    static bn_tokenizer tokenizer = {&bn_tokenizer_byte, BYTES, UINT64_C(0x62797465)};
    (void)kind;
    (void)source;
    *out = &tokenizer;
    return BN_OK;
}

static void byte_destroy(bn_tokenizer *tokenizer)
{
    (void)tokenizer;
}

static bn_status byte_encode_part(const bn_tokenizer *tokenizer, const bn_text_part *part,
                                  bn_ids *out, bn_text_part *rest)
{
    const unsigned char *text = part->text;
    (void)tokenizer;
    for (size_t i = part->from; i < part->to;) {
        int32_t ids[256];
        size_t n = 0;
        for (; n < 256 && i < part->to; i++)
            ids[n++] = text[i];
        BN_TRY(bn_ids_add(out, ids, n));
    }
    *rest = *part;
    rest->from = part->to;
    rest->fresh = false;
    return BN_OK;
}

static const unsigned char *byte_piece(const bn_tokenizer *tokenizer, int32_t id, size_t *length)
{
    (void)tokenizer;
    *length = 1;
    return &pieces[id];
}

const bn_tokenizer_kind bn_tokenizer_byte = {
    .name = "byte",
    .is_bytes = true,
    .create = byte_create,
    .destroy = byte_destroy,
    .encode_part = byte_encode_part,
    .piece = byte_piece,
};
