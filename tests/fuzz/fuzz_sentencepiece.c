/* A SentencePiece tokenizer.model: what is accepted becomes a tokenizer.json that
 * is either refused or encodes a text. */
#include <stdlib.h>
#include <string.h>

#include "data/sentencepiece_model.h"
#include "data/tokenizer.h"
#include "fuzz.h"

static void encode(const bn_tokenizer *tokenizer)
{
    static const char text[] = " the cat  sat\n on 12 mats, d\xc3\xa9j\xc3\xa0 \xff";
    bn_ids ids = {0};
    const bn_text_part all = {.text = text, .bytes = sizeof text, .to = sizeof text, .fresh = true};
    bn_text_part rest;
    if (fuzz_status(bn_tokenizer_encode_part(tokenizer, &all, &ids, &rest), BN_OK)) {
        if (ids.count > bn_tokenizer_max_tokens(tokenizer, sizeof text))
            fuzz_broken("more ids than announced");
        for (size_t i = 0; i < ids.count; i++)
            if (ids.items[i] < 0 || ids.items[i] >= bn_tokenizer_vocab_size(tokenizer))
                fuzz_broken("an id outside the vocabulary");
    }
    bn_ids_clear(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *json;
    bn_tokenizer *tokenizer;
    uint8_t *own = malloc(size + 1); /* so that an overrun shows */
    if (!own)
        fuzz_broken("no memory");
    memcpy(own, data, size);
    if (fuzz_status(bn_sentencepiece_to_json(own, size, &json), BN_OK)) {
        if (fuzz_status(bn_tokenizer_new(json, &tokenizer), BN_OK)) {
            encode(tokenizer);
            bn_tokenizer_free(tokenizer);
        }
        free(json);
    }
    free(own);
    return 0;
}

/* ---- seeds ---- */

typedef struct buffer {
    uint8_t bytes[512];
    size_t size;
} buffer;

static void add(buffer *b, const void *bytes, size_t size)
{
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

/* A field of less than 128 bytes. */
static void add_bytes(buffer *b, int number, const void *bytes, size_t size)
{
    const uint8_t head[] = {(uint8_t)(number << 3 | 2), (uint8_t)size};
    add(b, head, sizeof head);
    add(b, bytes, size);
}

static void add_piece(buffer *model, const char *text, float score, int type)
{
    buffer piece = {.size = 0};
    const uint8_t score_head = 2 << 3 | 5, type_field[] = {3 << 3, (uint8_t)type};
    add_bytes(&piece, 1, text, strlen(text));
    add(&piece, &score_head, 1);
    add(&piece, &score, sizeof score);
    add(&piece, type_field, sizeof type_field);
    add_bytes(model, 1, piece.bytes, piece.size);
}

static void seed(const char *name, int type, const char *duplicate)
{
    static const char *const pieces[] = {"\xe2\x96\x81", "t",   "h", "e",
                                         "th",           "the", "a", "\xc3\xa9"};
    const uint8_t trainer[] = {3 << 3, (uint8_t)type};
    const uint8_t normalizer[] = {3 << 3, 1, 4 << 3, type == 2};
    buffer model = {.size = 0};
    add_piece(&model, "<unk>", 0, 2);
    add_piece(&model, "<s>", 0, 3);
    add_piece(&model, "[x]", 0, 4);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        add_piece(&model, pieces[i], -(float)i, 1);
    if (duplicate)
        add_piece(&model, duplicate, -1, 1);
    add_bytes(&model, 2, trainer, sizeof trainer);
    add_bytes(&model, 3, normalizer, sizeof normalizer);
    fuzz_seed(name, model.bytes, model.size);
    for (size_t i = 0; i < model.size; i++) { /* cut off and changed at every byte */
        LLVMFuzzerTestOneInput(model.bytes, i);
        model.bytes[i] ^= 0x80;
        LLVMFuzzerTestOneInput(model.bytes, model.size);
        model.bytes[i] ^= 0x80;
    }
}

void fuzz_seeds(void)
{
    seed("bpe.model", 2, NULL);
    seed("unigram.model", 1, NULL);
    seed("duplicate.model", 1, "the");
    seed("duplicate_bpe.model", 2, "the");
    seed("bad_utf8.model", 1, "\xff\xfe");
}
