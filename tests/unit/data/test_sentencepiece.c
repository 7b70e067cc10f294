/* tokenizer.model: what is refused and how; bytes by hand, as protocol buffers lie in a
 * file. What models mean is compared with SentencePiece in tests/interop. */
#include "data_fixture.h"

#include <math.h>
#include <stdlib.h>

#include "data/sentencepiece_model.h"

typedef struct buffer {
    uint8_t bytes[4096];
    size_t size;
} buffer;

static void add(buffer *b, const void *bytes, size_t size)
{
    assert_true(b->size + size <= sizeof b->bytes);
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void add_varint(buffer *b, int number, uint64_t value)
{
    uint8_t byte = (uint8_t)(number << 3);
    if (number >= 16) {
        byte |= 0x80;
        add(b, &byte, 1);
        byte = (uint8_t)(number >> 4);
    }
    add(b, &byte, 1);
    for (; value >= 0x80; value >>= 7)
        add(b, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
    add(b, &(uint8_t){(uint8_t)value}, 1);
}

static void add_bytes(buffer *b, int number, const void *bytes, size_t size)
{
    const uint8_t head[] = {(uint8_t)(number << 3 | 2), (uint8_t)(size | 0x80),
                            (uint8_t)(size >> 7)};
    add(b, head, sizeof head);
    add(b, bytes, size);
}

static void add_piece(buffer *model, const char *text, size_t length, float score, int type)
{
    buffer piece = {.size = 0};
    if (length)
        add_bytes(&piece, 1, text, length);
    add(&piece, &(uint8_t){2 << 3 | 5}, 1);
    add(&piece, &score, sizeof score);
    add_varint(&piece, 3, (uint64_t)type);
    add_bytes(model, 1, piece.bytes, piece.size);
}

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

/* What the model of a case has beside "<unk>", the space, "a", "b" and "ab". */
typedef struct features {
    const char *text; /* of one more piece, if it has a type */
    size_t length;
    float score;
    int type;
    bool no_unknown;
    int model_type;          /* 0: BPE */
    int trainer, normalizer; /* a field, 0: none */
    uint64_t trainer_value, normalizer_value;
} features;

static void build(const features *f, buffer *model)
{
    buffer trainer = {.size = 0}, normalizer = {.size = 0};
    model->size = 0;
    if (!f->no_unknown)
        add_piece(model, "<unk>", 5, 0, UNKNOWN);
    add_piece(model, "\xe2\x96\x81", 3, -1, NORMAL);
    add_piece(model, "b", 1, -3, NORMAL);
    add_piece(model, "a", 1, -3, NORMAL);
    add_piece(model, "ab", 2, -2, NORMAL);
    if (f->type)
        add_piece(model, f->text, f->length, f->score, f->type);
    add_varint(&trainer, 3, f->model_type ? (uint64_t)f->model_type : 2);
    add(&trainer,
        "\x09"
        "12345678",
        9); /* a field of 8 bytes that nobody knows */
    if (f->trainer)
        add_varint(&trainer, f->trainer, f->trainer_value);
    add_varint(&normalizer, 3, 1);
    add_varint(&normalizer, 5, 1);
    if (f->normalizer)
        add_varint(&normalizer, f->normalizer, f->normalizer_value);
    add_bytes(model, 2, trainer.bytes, trainer.size);
    add_bytes(model, 3, normalizer.bytes, normalizer.size);
    add_bytes(model, 9, "?", 1); /* a field that nobody knows */
}

static void accepts(void **state)
{
    static const features cases[] = {
        {0},
        {.model_type = 1},
        {.trainer = 35, .trainer_value = 1, .text = "<0x41>", .length = 6, .type = BYTE},
        {.trainer = 24, .trainer_value = 0},
        {.normalizer = 4, .normalizer_value = 1},
        {.normalizer = 3, .normalizer_value = 0},
        {.text = "[x]", .length = 3, .type = USER_DEFINED},
        {.text = "[x]", .length = 3, .type = USER_DEFINED, .model_type = 1},
        {.text = "[x]", .length = 3, .type = CONTROL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer model;
        char *json;
        build(&cases[i], &model);
        assert_ok(bn_sentencepiece_to_json(model.bytes, model.size, &json));
        assert_non_null(strstr(json, "\"<unk>\""));
        /* The one pair, and that only where there are merges. */
        assert_int_equal(strstr(json, "[\"a\", \"b\"]") != NULL, cases[i].model_type != 1);
        free(json);
    }
}

static void refuses(void **state)
{
    static const struct {
        features features;
        const char *message;
    } cases[] = {
        {{.text = "", .type = NORMAL}, "piece 5: without a text"},
        {{.text = "a\0b", .length = 3, .type = NORMAL}, "piece 5: expected 1 to"},
        {{.text = "\xff", .length = 1, .type = NORMAL}, "piece 5: expected 1 to"},
        {{.text = "c", .length = 1, .type = NORMAL, .score = INFINITY}, "score is not finite"},
        {{.text = "c", .length = 1, .type = UNUSED}, "piece 5: type 5 is not supported"},
        {{.text = "c", .length = 1, .type = 7}, "piece 5: type 0 is not supported"},
        {{.text = "c", .length = 1, .type = UNKNOWN}, "pieces 0 and 5 are both unknown"},
        {{.text = "c d", .length = 3, .type = USER_DEFINED}, "a user-defined symbol with a space"},
        {{.no_unknown = true}, "no unknown piece among 4"},
        {{.model_type = 3}, "model_type is not supported"},
        {{.model_type = 4}, "model_type is not supported"},
        {{.trainer = 24, .trainer_value = 1}, "treat_whitespace_as_suffix is not supported"},
        {{.normalizer = 5, .normalizer_value = 0}, "escape_whitespaces = false is not supported"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer model;
        char *json;
        build(&cases[i].features, &model);
        if (bn_sentencepiece_to_json(model.bytes, model.size, &json) != BN_BAD_DATA ||
            !strstr(bn_error_text(), cases[i].message))
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, bn_error_text(), cases[i].message);
    }
}

/* Bytes that are no fields, at the start and within a piece, a trainer's and a
 * normalizer's part. */
static void refuses_fields(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *message;
    } cases[] = {
        {"\x80", 1, "a number that does not end"},
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, "a number that does not end"},
        {"\x08\x80", 2, "a number that does not end"},
        {"\x0a\x80", 2, "a number that does not end"},
        {"\x0b", 1, "wire type 3"},
        {"\x02\x01?", 3, "field 0 of 1 bytes"},
        {"\x82\x80\x80\x80\x80\x01\x01?", 8, "of 1 bytes where 1 are left"},
        {"\x0d\x01\x02", 3, "field 1 of 4 bytes where 2 are left"},
        {"\x09\x01\x02", 3, "field 1 of 8 bytes where 2 are left"},
        {"\x0a\x05?", 3, "field 1 of 5 bytes where 1 are left"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int part = 0; part < 4; part++) {
            buffer model = {.size = 0};
            char *json;
            if (part == 0)
                add(&model, cases[i].bytes, cases[i].size);
            else
                add_bytes(&model, part, cases[i].bytes, cases[i].size);
            if (bn_sentencepiece_to_json(model.bytes, model.size, &json) != BN_BAD_DATA ||
                !strstr(bn_error_text(), cases[i].message))
                fail_msg("case %zu in part %d: \"%s\" lacks \"%s\"", i, part, bn_error_text(),
                         cases[i].message);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
