/* tokenizer.model: what is refused and how; bytes by hand, as protocol buffers lie in a
 * file. What models mean is compared with SentencePiece in tests/interop. */
#include "data_fixture.h"

#include <math.h>
#include <stdlib.h>

#include "data/sentencepiece_model.h"

typedef struct buffer {
    uint8_t bytes[3 << 16];
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
                            (uint8_t)(size >> 7 | 0x80), (uint8_t)(size >> 14)};
    add(b, head, sizeof head);
    add(b, bytes, size);
}

static void add_piece(buffer *model, const char *text, size_t length, float score, int type)
{
    buffer piece = {.size = 0};
    if (length)
        add_bytes(&piece, 1, text, length);
    add_varint(&piece, 1, 7); /* not of its type, so another field */
    add_varint(&piece, 9, 7);
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
    bool no_unknown, keep_extra, strange, charsmap;
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
    if (f->keep_extra)
        add_varint(&normalizer, 4, 0);
    if (f->charsmap)
        add_bytes(&normalizer, 2, "any bytes", 9);
    if (f->strange) { /* fields of other types than theirs, or that nobody knows */
        add_varint(&normalizer, 2, 1);
        add_varint(&normalizer, 9, 1);
        add_varint(&trainer, 9, 1);
    }
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
        {.normalizer = 3, .normalizer_value = 0, .keep_extra = true},
        {.keep_extra = true},
        {.text = "[x]", .length = 3, .type = USER_DEFINED, .keep_extra = true},
        {.strange = true},
        {.keep_extra = true, .charsmap = true},
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

static char longest[(1 << 16) + 1];

static void refuses(void **state)
{
    memset(longest, 'a', sizeof longest);
    static const struct {
        features features;
        const char *message;
    } cases[] = {
        {{.text = "", .type = NORMAL}, "piece 5: without a text"},
        {{.text = "a\0b", .length = 3, .type = NORMAL}, "piece 5: expected 1 to"},
        {{.text = longest, .length = sizeof longest, .type = NORMAL}, "piece 5: expected 1 to"},
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

/* An empty text is none; type 0 is none; more pieces than there may be. */
static void refuses_extremes(void **state)
{
    enum { TOO_MANY = (1 << 21) + 1, EACH = 5 };
    static const uint8_t no_text[] = {0x0a, 2, 0x0a, 0},
                         no_type[] = {0x0a, 5, 0x0a, 1, 'a', 0x18, 0};
    static const uint8_t one[EACH] = {0x0a, 3, 0x0a, 1, 'a'};
    char *json;
    (void)state;
    assert_int_equal(bn_sentencepiece_to_json(no_text, sizeof no_text, &json), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "piece 0: expected 1 to"));
    assert_int_equal(bn_sentencepiece_to_json(no_type, sizeof no_type, &json), BN_BAD_DATA);
    assert_non_null(strstr(bn_error_text(), "piece 0: type 0 is not supported"));
    uint8_t *many = malloc((size_t)TOO_MANY * EACH);
    for (size_t i = 0; i < TOO_MANY; i++)
        memcpy(many + i * EACH, one, EACH);
    assert_int_equal(bn_sentencepiece_to_json(many, (size_t)TOO_MANY * EACH, &json), BN_BAD_DATA);
    assert_string_equal(bn_error_text(), "more than 2097152 pieces");
    free(many);
}

/* SentencePiece ranks results, so all pairs that make one piece have the rank of the
 * first; pieces of one score are ranked by their ids. */
static void equal_scores(void **state)
{
    buffer model = {.size = 0};
    static const uint8_t bpe[] = {0x18, 2};
    char *json;
    bn_tokenizer *t;
    int32_t ids[8];
    size_t count;
    (void)state;
    add_piece(&model, "<unk>", 5, 0, UNKNOWN);
    static const char *const pieces[] = {"\xe2\x96\x81", "a",   "b",  "c", "bc",
                                         "ab",           "abc", "ad", "da"}; /* no "d" */
    for (int i = 0; i < 9; i++)
        add_piece(&model, pieces[i], strlen(pieces[i]), -1, NORMAL);
    add_bytes(&model, 2, bpe, sizeof bpe);
    assert_ok(bn_sentencepiece_to_json(model.bytes, model.size, &json));
    assert_ok(bn_tokenizer_new(json, &t));
    assert_ok(bn_tokenizer_encode(t, "ab", 2, ids, &count));
    assert_true(count == 2 && ids[0] == 1 && ids[1] == 6);
    assert_ok(bn_tokenizer_encode(t, "abc", 3, ids, &count));
    assert_true(count == 2 && ids[1] == 7);
    bn_tokenizer_free(t);
    free(json);
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
        cmocka_unit_test(accepts),        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_fields), cmocka_unit_test(refuses_extremes),
        cmocka_unit_test(equal_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
