/* Readers and writers of small files: every allocation, every HDF5 call and every file
 * operation fails once. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/h5file.h"
#include "checkpoint/packed.h"
#include "cmocka_all.h"
#include "config/config.h"
#include "data/corpus.h"
#include "data/sentencepiece_model.h"
#include "data/table.h"
#include "data/token_shard.h"
#include "fault_sweep.h"
#include "interop/gguf.h"
#include "interop/safetensors.h"

/* ---- packed files ---- */

static const uint8_t codes[2 * 9] = {0x55, 0x66, 0x24, 0x99, 0x55, 0x12, 0x55, 0x66, 0x55,
                                     0x05, 0x60, 0x54, 0x19, 0x95, 0x52, 0x15, 0x62, 0x45};
static float values[6] = {1, 2, 3, 0.5f, 0.25f, 4};

/* The last of the values tells an old file from a new one: 4 in one, 5 in the next.
 * Reading notes which it was. */
static float version_read;

static void assert_values(const float *found)
{
    assert_memory_equal(found, values, 5 * sizeof *values);
    assert_true(found[5] == 4 || found[5] == 5);
    version_read = found[5];
}

static bn_status write_packed(void)
{
    static const bn_packed_info info = {"{}", "byte", "test"};
    const bn_packed_tensor tensors[] = {
        {.name = "a",
         .encoding = BN_ENC_BASE3X5,
         .ndim = 2,
         .shape = {2, 36},
         .group_size = BN_PER_ROW,
         .codes = codes,
         .data = values},
        {.name = "b", .encoding = BN_ENC_BFLOAT16, .ndim = 1, .shape = {6}, .data = values},
        {.name = "c", .encoding = BN_ENC_FLOAT32, .ndim = 1, .shape = {6}, .data = values},
        {.name = "d",
         .encoding = BN_ENC_TERNARY2,
         .ndim = 2,
         .shape = {2, 36},
         .group_size = BN_PER_ROW,
         .codes = codes,
         .data = values}};
    return bn_packed_write("packed.h5", &info, tensors, 4, 1);
}

static bn_status read_packed(void)
{
    uint8_t found[sizeof codes] = {0};
    float scales[2] = {0}, numbers[6] = {0};
    bn_packed *p;
    BN_TRY(bn_packed_open("packed.h5", &p));
    bn_status status = bn_packed_read_codes(p, bn_packed_at(p, 0), found, scales);
    if (status == BN_OK)
        status = bn_packed_read_float(p, bn_packed_at(p, 1), numbers);
    if (status == BN_OK) {
        assert_values(numbers);
        status = bn_packed_read_float(p, bn_packed_at(p, 2), numbers);
    }
    if (status == BN_OK) {
        assert_memory_equal(found, codes, sizeof codes);
        memset(found, 0, sizeof found);
        status = bn_packed_read_codes(p, bn_packed_at(p, 3), found, scales);
    }
    if (status == BN_OK) {
        assert_memory_equal(found, codes, sizeof codes);
        assert_memory_equal(scales, values, sizeof scales);
        assert_values(numbers);
    }
    bn_packed_close(p);
    return status;
}

/* ---- checkpoints ---- */

static const bn_checkpoint_param param = {"model.a", 2, {2, 3}, values, values, values, NULL, NULL};

static bn_status write_checkpoint(void)
{
    const bn_train_state state = {.step = 7,
                                  .best_step = -1,
                                  .config_json = "{}",
                                  .tokenizer = "byte",
                                  .producer = "test",
                                  .device = "cpu"};
    const bn_checkpoint_extra extra = {"more", "\1\2\3", 3};
    return bn_checkpoint_save("checkpoint.h5", &state, &param, 1, &extra, 1);
}

static bn_status read_checkpoint(void)
{
    float value[6] = {0}, moment1[6] = {0}, moment2[6] = {0};
    const bn_checkpoint_param into = {"model.a", 2, {2, 3}, value, moment1, moment2, NULL, NULL};
    bn_checkpoint *c;
    void *extra = NULL;
    size_t bytes;
    BN_TRY(bn_checkpoint_open("checkpoint.h5", &c));
    bn_status status = bn_checkpoint_load(c, &into, 1);
    if (status == BN_OK)
        status = bn_checkpoint_get_extra(c, "more", 64, &extra, &bytes);
    if (status == BN_OK) {
        assert_values(value);
        assert_memory_equal(moment2, value, sizeof value);
        assert_int_equal(bn_checkpoint_state(c)->step, 7);
        assert_int_equal(bytes, 3);
        assert_memory_equal(extra, "\1\2\3", 3);
    }
    free(extra);
    bn_checkpoint_close(c);
    return status;
}

static bn_status verify_checkpoint(void)
{
    bn_model_file kind;
    BN_TRY(bn_model_file_kind("checkpoint.h5", &kind));
    return bn_checkpoint_verify("checkpoint.h5");
}

/* ---- the container alone, of one array ---- */

static bn_status write_container(void)
{
    const bn_h5_array array = {"a", BN_H5_F32, 1, {6}, values};
    bn_h5_writer *w;
    BN_TRY(bn_h5_create("one.h5", 1, &w));
    bn_status status = bn_h5_put(w, &array);
    if (status == BN_OK)
        return bn_h5_commit(w);
    bn_h5_abort(w);
    return status;
}

static bn_status read_container(void)
{
    float found[6] = {0};
    bn_h5_reader *r;
    BN_TRY(bn_h5_open("one.h5", &r));
    bn_status status = bn_h5_verify(r);
    if (status == BN_OK)
        status = bn_h5_read(r, bn_h5_find(r, "a"), found);
    if (status == BN_OK)
        assert_values(found);
    bn_h5_close(r);
    return status;
}

/* ---- safetensors, GGUF ---- */

static void write_safetensors(void)
{
    static const char index[] = "{\"weight_map\": {\"a\": \"one.safetensors\"}}";
    const bn_st_spec spec = {"a", BN_ST_F32, 1, {3}};
    bn_st_writer *writer;
    assert_ok(bn_fs_mkdirs("folder"));
    assert_ok(bn_st_create("folder/one.safetensors", &spec, 1, "pt", &writer));
    assert_ok(bn_st_write_f32(writer, BN_ST_F32, values, 3));
    assert_ok(bn_st_commit(writer));
    assert_ok(bn_fs_write("folder/model.safetensors.index.json", index, sizeof index - 1));
}

static bn_status read_safetensors(void)
{
    float numbers[3];
    bn_st_reader *reader;
    BN_TRY(bn_st_open("folder/one.safetensors", &reader));
    bn_st_close(reader);
    BN_TRY(bn_st_open_dir("folder", &reader));
    const bn_status status = bn_st_read_f32(bn_st_at(reader, 0), numbers);
    bn_st_close(reader);
    return status;
}

static void write_gguf(void)
{
    const bn_gguf_spec spec = {"a", BN_GGUF_F32, 1, {6}};
    bn_gguf_meta meta = {0};
    bn_gguf_writer *writer;
    bn_gguf_meta_u32(&meta, "general.alignment", 32);
    bn_gguf_meta_array(&meta, "words", BN_GGUF_STRING, 1);
    bn_gguf_item_string(&meta, "one", 3);
    assert_ok(bn_gguf_create("model.gguf", &meta, &spec, 1, &writer));
    assert_ok(bn_gguf_write(writer, values, sizeof values));
    assert_ok(bn_gguf_finish(writer, BN_OK));
    bn_gguf_meta_clear(&meta);
}

static bn_status read_gguf(void)
{
    bn_gguf *file;
    BN_TRY(bn_gguf_open("model.gguf", &file));
    bn_gguf_close(file);
    return BN_OK;
}

/* ---- tokenizers, data ---- */

static bn_status encode_with(const char *source)
{
    int32_t ids[64];
    size_t count;
    bn_tokenizer *tokenizer;
    BN_TRY(bn_tokenizer_new(source, &tokenizer));
    const bn_status status = bn_tokenizer_encode(tokenizer, " the cat ", 9, ids, &count);
    bn_tokenizer_free(tokenizer);
    return status;
}

/* tests/golden/tokenizer/NAME, read before anything fails. */
static char *golden(const char *name)
{
    char *text;
    char *path = bn_format("%s/tests/golden/tokenizer/%s", getenv("BITNET_SOURCE_DIR"), name);
    assert_ok(bn_fs_read(path, 1 << 20, &text, NULL));
    free(path);
    return text;
}

static char *byte_level, *metaspace;

static bn_status read_byte_level(void)
{
    return encode_with(byte_level);
}

/* An added token that the normalizer sees, and one too long for the room that is left. */
static char *normalized;

static char *write_normalized(void)
{
    char *json;
    bn_text text = {0};
    bn_text_add(&text,
                "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Metaspace\","
                "\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"never\"},\"added_tokens\":["
                "{\"id\":3,\"content\":\"cat\",\"normalized\":true},{\"id\":4,\"content\":\"");
    for (int i = 0; i < 10000; i++)
        bn_text_add(&text, "x");
    bn_text_add(&text, "\"}],\"model\":{\"type\":\"BPE\",\"unk_token\":\"a\",\"vocab\":{\"a\":0,"
                       "\"\xe2\x96\x81\":1,\"\xe2\x96\x81"
                       "a\":2},\"merges\":[\"\xe2\x96\x81 a\"]}}");
    assert_ok(bn_text_take(&text, &json));
    return json;
}

static bn_status read_normalized(void)
{
    return encode_with(normalized);
}

static bn_status read_metaspace(void)
{
    return encode_with(metaspace);
}

/* Fields of a tokenizer.model: pieces with their scores, the kind of model. */
static bn_status read_sentencepiece(uint8_t type)
{
    const uint8_t model[] = {/* "<unk>" unknown; "a" 0; "\xe2\x96\x81" 0 */
                             0x0a, 0x0e, 0x0a, 0x05, '<',  'u',  'n',  'k',  '>',  0x15, 0,
                             0,    0,    0,    0x18, 0x02, 0x0a, 0x08, 0x0a, 0x01, 'a',  0x15,
                             0,    0,    0,    0,    0x0a, 0x0a, 0x0a, 0x03, 0xe2, 0x96, 0x81,
                             0x15, 0,    0,    0,    0,    0x12, 0x02, 0x18, type};
    char *json;
    BN_TRY(bn_sentencepiece_to_json(model, sizeof model, &json));
    const bn_status status = encode_with(json);
    free(json);
    return status;
}

static bn_status read_unigram(void)
{
    return read_sentencepiece(1);
}

static bn_status read_bpe(void)
{
    return read_sentencepiece(2);
}

static bn_tokenizer *bytes;

static bn_status write_shard(void)
{
    const int32_t ids[] = {0, 1, 100, (int32_t)values[5]};
    bn_shard_writer *writer;
    BN_TRY(bn_shard_writer_new("tokens.bnt", bytes, &writer));
    bn_status status = bn_shard_writer_append(writer, ids, 4);
    if (status == BN_OK)
        status = bn_shard_writer_finish(writer);
    bn_shard_writer_free(writer);
    return status;
}

static bn_status read_shard(void)
{
    int32_t ids[4];
    bn_corpus *corpus;
    BN_TRY(bn_corpus_open("*.bnt", bytes, &corpus));
    assert_int_equal(bn_corpus_size(corpus), 4);
    bn_corpus_copy(corpus, 0, 4, ids);
    assert_memory_equal(ids, ((const int32_t[]){0, 1, 100}), 3 * sizeof *ids);
    version_read = (float)ids[3];
    bn_corpus_free(corpus);
    return BN_OK;
}

static bn_status read_table(void)
{
    bn_table *table;
    BN_TRY(bn_table_open("table.csv", 2, 2, &table));
    bn_table_free(table);
    return BN_OK;
}

static bn_status read_config(void)
{
    bn_config config;
    BN_TRY(bn_config_load("config.json", &config));
    bn_config_clear(&config);
    return BN_OK;
}

/* ---- the sweep ---- */

static int write_samples(void **state)
{
    static const char table[] = "x,y,class\n1,2,0\n3,4,1\n", config[] = "{\"output_dir\": \"a\"}";
    (void)state;
    assert_ok(bn_tokenizer_new("byte", &bytes));
    byte_level = golden("llama3.json");
    metaspace = golden("llama2.json");
    normalized = write_normalized();
    assert_ok(write_packed());
    assert_ok(write_checkpoint());
    assert_ok(write_container());
    write_safetensors();
    write_gguf();
    assert_ok(write_shard());
    assert_ok(bn_fs_write("table.csv", table, sizeof table - 1));
    assert_ok(bn_fs_write("config.json", config, sizeof config - 1));
    return 0;
}

static int forget(void **state)
{
    (void)state;
    bn_tokenizer_free(bytes);
    free(byte_level);
    free(metaspace);
    free(normalized);
    return 0;
}

static void test_allocations(void **state)
{
    static const fault_work works[] = {{.what = "packed file", .run = read_packed},
                                       {.what = "checkpoint", .run = read_checkpoint},
                                       {.what = "safetensors", .run = read_safetensors},
                                       {.what = "GGUF", .run = read_gguf},
                                       {.what = "byte-level tokenizer", .run = read_byte_level},
                                       {.what = "metaspace tokenizer", .run = read_metaspace},
                                       {.what = "normalized tokens", .run = read_normalized},
                                       {.what = "tokenizer.model, unigram", .run = read_unigram},
                                       {.what = "tokenizer.model, BPE", .run = read_bpe},
                                       {.what = "token shard", .run = read_shard},
                                       {.what = "table", .run = read_table},
                                       {.what = "config", .run = read_config}};
    (void)state;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        assert_true(fault_sweep(&works[i], ALLOCATION, 1) > 0);
}

static void test_hdf5_calls(void **state)
{
    static const fault_work works[] = {{.what = "packed file", .run = read_packed},
                                       {.what = "checkpoint", .run = read_checkpoint},
                                       {.what = "container", .run = read_container}};
    (void)state;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        assert_true(fault_sweep(&works[i], HDF5_CALL, 1) > 0);
    /* Opens the file as reading it does, so a sample is enough. */
    const fault_work again = {.what = "verification", .run = verify_checkpoint};
    assert_true(fault_sweep(&again, HDF5_CALL, 29) > 0);
}

static bn_status (*read_back)(void); /* what is being written */

static void renew(void)
{
    assert_ok(read_back());
    values[5] = 9 - version_read;
}

/* What is there is whole, the new file after success, and nothing temporary is left. */
static void check_written(const char *what, long k, bn_status status)
{
    static const char *const temporary[] = {"packed.h5.tmp", "checkpoint.h5.tmp", "one.h5.tmp",
                                            "tokens.bnt.tmp"};
    for (size_t i = 0; i < sizeof temporary / sizeof *temporary; i++)
        if (!fault.removing && bn_fs_exists(temporary[i]))
            fail_msg("%s: %s is left over", fault_place(what, k), temporary[i]);
    assert_ok(read_back());
    if (status == BN_OK && version_read != values[5])
        fail_msg("%s: success, and the file is the old one", fault_place(what, k));
}

static void test_writers(void **state)
{
    static const struct {
        const char *what;
        bn_status (*write)(void), (*read)(void);
        bool hdf5_calls;
    } all[] = {{"packed file written", write_packed, read_packed, false},
               {"checkpoint written", write_checkpoint, read_checkpoint, false},
               {"container written", write_container, read_container, true},
               {"token shard written", write_shard, read_shard, false}};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const fault_work work = {all[i].what, all[i].write, renew, check_written};
        read_back = all[i].read;
        for (fault_kind kind = 0; kind < FAULT_KINDS; kind++)
            if (kind != HDF5_CALL || all[i].hdf5_calls)
                assert_true(fault_sweep(&work, kind, 1) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_hdf5_calls),
        cmocka_unit_test(test_writers),
    };
    return cmocka_run_group_tests(tests, write_samples, forget);
}
