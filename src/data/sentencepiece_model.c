#include "data/sentencepiece_model.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/base64.h"
#include "data/bpe.h"
#include "data/unicode.h"

enum { PIECES_LIMIT = 1 << 21, PIECE_LIMIT = 1 << 16 };

enum piece_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum model_type { UNIGRAM = 1, BPE };

typedef struct piece {
    char *text;
    float score;
    int type;
} piece;

typedef struct model {
    piece *pieces;
    int count, capacity;
    int type, unknown; /* unknown: its id, -1 while there is none */
    bool byte_fallback, whitespace_as_suffix;
    bool dummy_prefix, remove_extra, escape;
    const unsigned char *charsmap;
    size_t charsmap_bytes;
    float lowest, highest; /* scores of ordinary pieces */
    bool user_defined;
} model;

/* ---- protocol buffers ---- */

typedef struct message {
    const unsigned char *at, *end;
} message;

/* A field: its number, and either a value or bytes. */
typedef struct field {
    uint32_t number;
    int wire;
    uint64_t value;
    message bytes;
} field;

enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };

static bn_status read_varint(message *m, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        const unsigned char byte = *m->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return BN_OK;
    }
    return bn_error(BN_BAD_DATA, "no SentencePiece model: a number that does not end");
}

static bn_status read_field(message *m, field *out)
{
    uint64_t key;
    BN_TRY(read_varint(m, &key));
    *out = (field){.number = (uint32_t)(key >> 3), .wire = key & 7};
    if (out->wire == VARINT)
        return read_varint(m, &out->value);
    uint64_t size = out->wire == FIXED64 ? 8 : 4;
    if (out->wire == BYTES)
        BN_TRY(read_varint(m, &size));
    else if (out->wire != FIXED64 && out->wire != FIXED32)
        return bn_error(BN_BAD_DATA, "no SentencePiece model: wire type %d", out->wire);
    if (key >> 3 == 0 || key >> 32 != 0 || size > (uint64_t)(m->end - m->at))
        return bn_error(
            BN_BAD_DATA, "no SentencePiece model: field %llu of %llu bytes where %zu are left",
            (unsigned long long)(key >> 3), (unsigned long long)size, (size_t)(m->end - m->at));
    out->bytes = (message){m->at, m->at + size};
    if (out->wire != BYTES)
        memcpy(&out->value, m->at, size); /* little-endian, as this machine */
    m->at += size;
    return BN_OK;
}

static bool is_field(const field *f, uint32_t number, int wire)
{
    return f->number == number && f->wire == wire;
}

/* ---- reading ---- */

static bn_status read_text(const field *f, int index, char **out)
{
    const size_t length = (size_t)(f->bytes.end - f->bytes.at);
    if (length == 0 || length > PIECE_LIMIT || memchr(f->bytes.at, 0, length) ||
        bn_utf8_valid(f->bytes.at, length) != length)
        return bn_error(BN_BAD_DATA, "piece %d: expected 1 to %d bytes of UTF-8 without NUL", index,
                        PIECE_LIMIT);
    free(*out);
    *out = malloc(length + 1);
    if (!*out)
        return bn_error_nomem("a piece", length);
    memcpy(*out, f->bytes.at, length);
    (*out)[length] = '\0';
    return BN_OK;
}

static bn_status check_piece(model *m, const piece *p, int id)
{
    if (!p->text)
        return bn_error(BN_BAD_DATA, "piece %d: without a text", id);
    if (!isfinite(p->score))
        return bn_error(BN_BAD_DATA, "piece %d: the score is not finite", id);
    if (p->type < NORMAL || p->type == UNUSED) /* 0 is any above BYTE */
        return bn_error(BN_BAD_DATA, "piece %d: type %d is not supported", id, p->type);
    if (p->type == UNKNOWN && m->unknown >= 0)
        return bn_error(BN_BAD_DATA, "pieces %d and %d are both unknown", m->unknown, id);
    if (p->type == USER_DEFINED && strchr(p->text, ' '))
        return bn_error(BN_BAD_DATA,
                        "piece %d: a user-defined symbol with a space is not supported", id);
    if (p->type == UNKNOWN)
        m->unknown = id;
    if (p->type == NORMAL) {
        m->lowest = fminf(m->lowest, p->score);
        m->highest = fmaxf(m->highest, p->score);
    }
    m->user_defined |= p->type == USER_DEFINED;
    return BN_OK;
}

static bn_status read_piece(model *m, message bytes)
{
    if (m->count == m->capacity) {
        const int capacity = m->capacity ? 2 * m->capacity : 1024;
        if (capacity > PIECES_LIMIT)
            return bn_error(BN_BAD_DATA, "more than %d pieces", PIECES_LIMIT);
        piece *grown = realloc(m->pieces, (size_t)capacity * sizeof *grown);
        if (!grown)
            return bn_error_nomem("pieces", (size_t)capacity * sizeof *grown);
        m->pieces = grown;
        m->capacity = capacity;
    }
    const int id = m->count++;
    piece *p = &m->pieces[id];
    *p = (piece){.type = NORMAL};
    while (bytes.at < bytes.end) {
        field f;
        BN_TRY(read_field(&bytes, &f));
        if (is_field(&f, 1, BYTES))
            BN_TRY(read_text(&f, id, &p->text));
        else if (is_field(&f, 2, FIXED32))
            memcpy(&p->score, &f.value, sizeof p->score);
        else if (is_field(&f, 3, VARINT))
            p->type = f.value > BYTE ? 0 : (int)f.value;
    }
    return check_piece(m, p, id);
}

static bn_status read_trainer(model *m, message bytes)
{
    while (bytes.at < bytes.end) {
        field f;
        BN_TRY(read_field(&bytes, &f));
        if (is_field(&f, 3, VARINT))
            m->type = f.value > BPE ? 0 : (int)f.value;
        else if (is_field(&f, 24, VARINT))
            m->whitespace_as_suffix = f.value != 0;
        else if (is_field(&f, 35, VARINT))
            m->byte_fallback = f.value != 0;
    }
    return BN_OK;
}

static bn_status read_normalizer(model *m, message bytes)
{
    while (bytes.at < bytes.end) {
        field f;
        BN_TRY(read_field(&bytes, &f));
        if (is_field(&f, 2, BYTES)) {
            m->charsmap = f.bytes.at;
            m->charsmap_bytes = (size_t)(f.bytes.end - f.bytes.at);
        } else if (is_field(&f, 3, VARINT)) {
            m->dummy_prefix = f.value != 0;
        } else if (is_field(&f, 4, VARINT)) {
            m->remove_extra = f.value != 0;
        } else if (is_field(&f, 5, VARINT)) {
            m->escape = f.value != 0;
        }
    }
    return BN_OK;
}

static bn_status read_model(model *m, message bytes)
{
    while (bytes.at < bytes.end) {
        field f;
        BN_TRY(read_field(&bytes, &f));
        if (is_field(&f, 1, BYTES))
            BN_TRY(read_piece(m, f.bytes));
        else if (is_field(&f, 2, BYTES))
            BN_TRY(read_trainer(m, f.bytes));
        else if (is_field(&f, 3, BYTES))
            BN_TRY(read_normalizer(m, f.bytes));
    }
    if (m->type != UNIGRAM && m->type != BPE)
        return bn_error(BN_BAD_DATA, "model_type is not supported; there is: UNIGRAM, BPE");
    if (m->unknown < 0)
        return bn_error(BN_BAD_DATA, "no SentencePiece model: no unknown piece among %d", m->count);
    if (m->whitespace_as_suffix || !m->escape)
        return bn_error(BN_BAD_DATA, "%s is not supported",
                        m->escape ? "treat_whitespace_as_suffix" : "escape_whitespaces = false");
    return BN_OK;
}

/* ---- writing ---- */

static void write_added(const model *m, bn_json *json)
{
    bn_json_array(json, "added_tokens");
    for (int i = 0; i < m->count; i++) {
        const piece *p = &m->pieces[i];
        const bool special = p->type == UNKNOWN || p->type == CONTROL;
        /* a unigram model weighs its user-defined symbols against others */
        if (!special && !(p->type == USER_DEFINED && m->type == BPE))
            continue;
        bn_json_object(json, NULL);
        bn_json_int(json, "id", i);
        bn_json_string(json, "content", p->text);
        bn_json_bool(json, "single_word", false);
        bn_json_bool(json, "lstrip", false);
        bn_json_bool(json, "rstrip", false);
        bn_json_bool(json, "normalized", !special);
        bn_json_bool(json, "special", special);
        bn_json_object_end(json);
    }
    bn_json_array_end(json);
}

static bn_status write_charsmap(const model *m, bn_json *json)
{
    bn_text table = {0};
    char *text;
    bn_base64_encode(m->charsmap, m->charsmap_bytes, &table);
    BN_TRY(bn_text_take(&table, &text));
    bn_json_object(json, "normalizer");
    bn_json_string(json, "type", "SentencePiece");
    bn_json_bool(json, "add_dummy_prefix", m->dummy_prefix);
    bn_json_bool(json, "remove_extra_whitespaces", m->remove_extra);
    bn_json_string(json, "precompiled_charsmap", text);
    bn_json_array(json, "user_defined_symbols");
    for (int i = 0; i < m->count; i++)
        if (m->pieces[i].type == USER_DEFINED)
            bn_json_string(json, NULL, m->pieces[i].text);
    bn_json_array_end(json);
    bn_json_object_end(json);
    free(text);
    return BN_OK;
}

static bn_status write_normalizer(const model *m, bn_json *json)
{
    if (m->charsmap_bytes > 0 || m->remove_extra || m->user_defined || !m->dummy_prefix)
        return write_charsmap(m, json);
    bn_json_raw(json, "normalizer",
                "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
                "\"" BN_SPACE_MARK "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
                "\"content\":\"" BN_SPACE_MARK "\"}]}");
    return BN_OK;
}

typedef struct ranked {
    float score;
    int id;
} ranked;

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id - y->id;
}

/* All ways to make a piece of two others. */
static void write_splits(const bn_vocab *normal, const char *text, bn_json *json)
{
    const unsigned char *p = (const unsigned char *)text;
    const size_t length = strlen(text);
    for (size_t cut = bn_utf8_length(*p); cut < length; cut += bn_utf8_length(p[cut])) {
        char left[PIECE_LIMIT + 1];
        if (bn_vocab_find(normal, p, cut) < 0 || bn_vocab_find(normal, p + cut, length - cut) < 0)
            continue;
        memcpy(left, text, cut);
        left[cut] = '\0';
        bn_json_array_flat(json, NULL);
        bn_json_string(json, NULL, left);
        bn_json_string(json, NULL, text + cut);
        bn_json_array_end(json);
    }
}

/* SentencePiece merges two neighbours whenever together they are a piece, the
 * piece of highest score first. */
static bn_status write_merges(const model *m, bn_json *json)
{
    bn_vocab normal;
    bn_status status = BN_OK;
    int count = 0;
    ranked *order = malloc((size_t)m->count * sizeof *order);
    if (!order)
        return bn_error_nomem("merges", (size_t)m->count * sizeof *order);
    BN_TRY_OUT(bn_vocab_init(&normal, m->count));
    for (int i = 0; i < m->count; i++) {
        if (m->pieces[i].type != NORMAL)
            continue;
        BN_TRY_OUT(bn_vocab_put(&normal, i, m->pieces[i].text, strlen(m->pieces[i].text), true));
        order[count++] = (ranked){m->pieces[i].score, i};
    }
    qsort(order, (size_t)count, sizeof *order, by_score);
    bn_json_array(json, "merges");
    for (int i = 0; i < count; i++)
        write_splits(&normal, m->pieces[order[i].id].text, json);
    bn_json_array_end(json);
out:
    bn_vocab_clear(&normal);
    free(order);
    return status;
}

/* What a unigram model gives a piece: a user-defined symbol is the better the
 * shorter it is. */
static double score_of(const model *m, const piece *p)
{
    return p->type == USER_DEFINED ? (double)((float)strlen(p->text) * m->highest) - 0.1
                                   : (double)p->score;
}

static bn_status write_model(const model *m, bn_json *json)
{
    bn_json_object(json, "model");
    bn_json_string(json, "type", m->type == BPE ? "BPE" : "Unigram");
    bn_json_bool(json, "sentencepiece", true);
    bn_json_bool(json, "byte_fallback", m->byte_fallback);
    bn_json_bool(json, "fuse_unk", true);
    if (m->type == BPE) {
        bn_json_string(json, "unk_token", m->pieces[m->unknown].text);
        bn_json_object(json, "vocab");
        for (int i = 0; i < m->count; i++)
            bn_json_int(json, m->pieces[i].text, i);
        bn_json_object_end(json);
        BN_TRY(write_merges(m, json));
    } else {
        bn_json_int(json, "unk_id", m->unknown);
        bn_json_double(json, "min_score", (double)m->lowest);
        bn_json_array(json, "vocab");
        for (int i = 0; i < m->count; i++) {
            bn_json_array_flat(json, NULL);
            bn_json_string(json, NULL, m->pieces[i].text);
            bn_json_double(json, NULL, score_of(m, &m->pieces[i]));
            bn_json_array_end(json);
        }
        bn_json_array_end(json);
    }
    bn_json_object_end(json);
    return BN_OK;
}

static bn_status write_json(const model *m, char **out)
{
    bn_json json = {0};
    bn_status status = BN_OK;
    bn_json_object(&json, NULL);
    bn_json_string(&json, "version", "1.0");
    bn_json_null(&json, "truncation");
    bn_json_null(&json, "padding");
    write_added(m, &json);
    BN_TRY_OUT(write_normalizer(m, &json));
    bn_json_null(&json, "pre_tokenizer");
    bn_json_null(&json, "post_processor");
    bn_json_raw(&json, "decoder",
                "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
                "{\"String\":\"" BN_SPACE_MARK "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
                "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}"
                "]}");
    BN_TRY_OUT(write_model(m, &json));
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
out:
    bn_json_clear(&json);
    return status;
}

bn_status bn_sentencepiece_to_json(const void *bytes, size_t size, char **json)
{
    model m = {.type = UNIGRAM, /* what the format says where nothing is given */
               .unknown = -1,
               .dummy_prefix = true,
               .remove_extra = true,
               .escape = true,
               .lowest = FLT_MAX,
               .highest = -FLT_MAX};
    *json = NULL;
    bn_status status = read_model(&m, (message){bytes, (const unsigned char *)bytes + size});
    if (status == BN_OK)
        status = write_json(&m, json);
    for (int i = 0; i < m.count; i++)
        free(m.pieces[i].text);
    free(m.pieces);
    return status;
}
