/* The attack gallery: files that lie, given to every program that opens such
 * files. Each is refused with exit code 65 and one line, within a second of
 * processor time and 256 MiB, and nothing is written.
 *
 * A file is made from a good one by an entry of h5_attacks[] or of a table
 * below; a further case is a row there.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmocka_all.h"
#include "h5_attacks.h"

#define CONFIG                                                                                     \
    "\"model\": {\"hidden_size\": 32, \"intermediate_size\": 64, \"num_hidden_layers\": 1, "       \
    "\"num_attention_heads\": 2, \"max_position_embeddings\": 16}, "                               \
    "\"quantization\": {\"group_size\": 32}, \"data\": {\"train\": \"text.txt\"}, "                \
    "\"training\": {\"seq_len\": 16, \"batch_size\": 2, \"max_steps\": 2, \"warmup_steps\": 1}"

enum { EXIT_BAD_DATA = 65, MEMORY_KIB = 256 << 10, ARGS = 12 };
static const double seconds_max = 1;

/* ---- running programs ---- */

typedef struct outcome {
    int code; /* -1: ended by a signal */
    double seconds;
    long kib;
    char text[4096]; /* of stderr */
} outcome;

static outcome run(const char *const *args)
{
    outcome o = {.code = -1};
    struct rusage usage;
    char path[1024];
    int how;
    snprintf(path, sizeof path, "%s/%s", getenv("BITNET_BIN_DIR"), args[0]);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const int out = open("out.txt", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        const int err = open("err.txt", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(out, 1);
        dup2(err, 2);
        execv(path, (char *const *)(uintptr_t)args);
        _exit(127);
    }
    assert_int_equal(wait4(pid, &how, 0, &usage), pid);
    if (WIFEXITED(how))
        o.code = WEXITSTATUS(how);
    o.seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    o.kib = usage.ru_maxrss;
    FILE *f = fopen("err.txt", "r");
    assert_non_null(f);
    o.text[fread(o.text, 1, sizeof o.text - 1, f)] = '\0';
    fclose(f);
    return o;
}

#define RUN(...) run((const char *const[ARGS]){__VA_ARGS__})

static void expect_refusal(const char *const *args, const char *message)
{
    const outcome o = run(args);
    const char *wrong = NULL;
    const char *end = strchr(o.text, '\n');
    if (o.code != EXIT_BAD_DATA)
        wrong = "another exit code";
    else if (!end || end[1])
        wrong = "not one line";
    else if (strncmp(o.text, args[0], strlen(args[0])) != 0)
        wrong = "the line does not begin with the program's name";
    else if (message && !strstr(o.text, message))
        wrong = "another message";
    else if (o.seconds > seconds_max)
        wrong = "too slow";
    else if (o.kib > MEMORY_KIB)
        wrong = "too much memory";
    else if (access("new", F_OK) == 0)
        wrong = "something was written";
    if (wrong)
        fail_msg("%s %s %s: %s: exit code %d, %.1f s, %ld MiB, expected \"%s\"; stderr: %s",
                 args[0], args[1], args[2] ? args[2] : "", wrong, o.code, o.seconds, o.kib >> 10,
                 message ? message : "", o.text);
}

#define REFUSED(message, ...) expect_refusal((const char *const[ARGS]){__VA_ARGS__}, message)

static void spill(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void write_text(const char *path, const char *text)
{
    spill(path, text, strlen(text));
}

static void copy(const char *from, const char *to)
{
    static char data[4 << 20];
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    const size_t size = fread(data, 1, sizeof data, f);
    assert_true(size < sizeof data);
    fclose(f);
    spill(to, data, size);
}

/* Bits of weights whose fields can hold more than there are codes. */
static const int grids[] = {3, 4, 8};
enum { GRIDS = sizeof grids / sizeof *grids };

/* Runs of two steps: a checkpoint, its packed files, other grids', an adapter. */
static int train(void **state)
{
    char text[4000];
    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "the river runs over stones\n"[i % 27];
    spill("text.txt", text, sizeof text);
    write_text("config.json", "{" CONFIG "}");
    assert_int_equal(RUN("bitnet-train", "config.json", "--quiet", "--device", "cpu",
                         "--output-dir", "run", "--overwrite")
                         .code,
                     0);
    copy("run/checkpoint-00000002.h5", "good-checkpoint.h5");
    assert_int_equal(RUN("bitnet-export", "good-checkpoint.h5", "-o", "good-b3.h5", "-q").code, 0);
    assert_int_equal(RUN("bitnet-export", "good-checkpoint.h5", "-o", "good-t2.h5", "-q",
                         "--encoding", "ternary2")
                         .code,
                     0);
    for (int i = 0; i < GRIDS; i++) {
        char bits[64], name[64];
        snprintf(bits, sizeof bits, "quantization.weight_bits=%d", grids[i]);
        snprintf(name, sizeof name, "good-int%d.h5", grids[i]);
        assert_int_equal(RUN("bitnet-train", "config.json", "--quiet", "--device", "cpu",
                             "--output-dir", "wide", "--overwrite", "--set", bits)
                             .code,
                         0);
        assert_int_equal(RUN("bitnet-export", "wide", "-o", name, "-q").code, 0);
    }
    assert_int_equal(RUN("bitnet-train", "config.json", "--quiet", "--device", "cpu",
                         "--output-dir", "adapted", "--overwrite", "--set",
                         "adapter.base=good-b3.h5")
                         .code,
                     0);
    copy("adapted/checkpoint-00000002.h5", "good-adapter.h5");
    return 0;
}

/* ---- model files ---- */

/* To every program that opens one; half of them keep it at arm's length. */
static void show_model(const char *path, const char *message)
{
    REFUSED(message, "bitnet-inspect", path);
    REFUSED(message, "bitnet-inspect", path, "--untrusted");
    REFUSED(message, "bitnet-generate", path, "-p", "a", "-n", "1", "--device", "cpu");
    REFUSED(message, "bitnet-generate", path, "-p", "a", "-n", "1", "--device", "cpu",
            "--untrusted");
    REFUSED(message, "bitnet-eval", path, "--data", "text.txt", "--device", "cpu");
    REFUSED(message, "bitnet-export", path, "-o", "new", "--device", "cpu", "--untrusted");
}

static void show_checkpoint(const char *path, const char *message)
{
    show_model(path, message);
    REFUSED(message, "bitnet-train", "config.json", "--quiet", "--device", "cpu", "--output-dir",
            "run", "--resume", path);
}

static void test_structure(void **state)
{
    (void)state;
    for (int i = 0; i < h5_attack_count; i++) {
        copy("good-b3.h5", "evil.h5");
        hid_t file = h5_attack_open("evil.h5");
        h5_attacks[i].change(file, "/model.norm.weight");
        H5Fclose(file);
        show_model("evil.h5", h5_attacks[i].message);
        copy("good-checkpoint.h5", "evil.h5");
        file = h5_attack_open("evil.h5");
        h5_attacks[i].change(file, "/params/model.norm.weight");
        H5Fclose(file);
        show_checkpoint("evil.h5", h5_attacks[i].message);
    }
}

/* Numbers that a model cannot have, with every checksum right. */
static void test_values(void **state)
{
    static const float nan_value = NAN, negative = -1, zero = 0, infinite = INFINITY;
    static const char weight[] = "model.layers.0.mlp.up_proj.weight";
    static const char scale[] = "model.layers.0.mlp.up_proj.weight_scale";
    static const struct {
        const char *file, *array;
        size_t offset;
        const void *bytes;
        size_t size;
        const char *message;
    } cases[] = {
        {"good-b3.h5", scale, 4, &nan_value, 4, "scale 1: expected finite and > 0, found "},
        {"good-b3.h5", scale, 0, &negative, 4, "scale 0: expected finite and > 0, found -1"},
        {"good-b3.h5", scale, 0, &zero, 4, "scale 0: expected finite and > 0, found 0"},
        {"good-t2.h5", scale, 8, &infinite, 4, "scale 2: expected finite and > 0, found inf"},
        {"good-b3.h5", "model.norm.weight", 4, &nan_value, 4, "element 1: expected finite"},
        {"good-t2.h5", weight, 3, "\x57", 1, "expected a field up to 2, found 3"},
        {"good-b3.h5", weight, 3, "\xf3", 1, "expected a byte up to 242, found 243"},
        {"good-b3.h5", weight, 6, "\x00", 1, "expected padding 1, found 0"},
        {"good-int3.h5", weight, 1, "\xff", 1, "expected a field up to 6, found 7"},
        {"good-int4.h5", weight, 1, "\xff", 1, "expected a field up to 14, found 15"},
        {"good-int8.h5", weight, 1, "\xff", 1, "expected a field up to 254, found 255"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy(cases[i].file, "evil.h5");
        hid_t file = h5_attack_open("evil.h5");
        h5_attack_poke(file, cases[i].array, cases[i].offset, cases[i].bytes, cases[i].size);
        h5_attack_repair(file, cases[i].array);
        H5Fclose(file);
        show_model("evil.h5", cases[i].message);
    }
    copy("good-checkpoint.h5", "evil.h5");
    hid_t file = h5_attack_open("evil.h5");
    h5_attack_poke(file, "params/model.norm.weight", 0, &nan_value, 4);
    h5_attack_repair(file, "params/model.norm.weight");
    H5Fclose(file);
    show_checkpoint("evil.h5", "element 0: expected finite");
}

/* The texts that a model file carries. */
static void test_texts(void **state)
{
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"config_json", "{\"model\": {}, \"model\": {}}", "model"},
        {"config_json", "{\"model\": {\"hidden_size\": 9223372036854775808}}", "hidden_size"},
        {"config_json", "{\"model\": {\"hidden_size\": 1048576, \"num_hidden_layers\": 4096}}",
         "model.num_hidden_layers is 4096, expected at most the file's"},
        {"config_json", "{\"model\": {\"a\\u001b[2Jb\\n\": 1}}", "a?[2Jb "},
        {"config_json", "[[[[", ""},
        {"config_json", "", ""},
        {"tokenizer",
         "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 16777215}, "
         "\"merges\": []}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}",
         "id 16777215 in a vocabulary of 1"},
        {"tokenizer",
         "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}, "
         "\"pre_tokenizer\": {\"type\": \"Split\", \"behavior\": \"Isolated\", "
         "\"pattern\": {\"Regex\": \"(((((((((((a{1000}){1000})\"}}}",
         ""},
        {"tokenizer", "../../../etc/passwd", "tokenizer"},
        {"format", "other", "format: expected"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy("good-checkpoint.h5", "evil.h5");
        hid_t file = h5_attack_open("evil.h5");
        h5_attack_text(file, cases[i].name, cases[i].text);
        h5_attack_repair(file, "params/model.norm.weight");
        H5Fclose(file);
        show_checkpoint("evil.h5", cases[i].message);
    }
}

/* ---- token shards and tokenizers ---- */

static void test_shards(void **state)
{
    static const struct {
        const char *header; /* 32 bytes: magic, version, width, count, hash */
        const char *name;
        const char *message;
    } cases[] = {
        {"BNTOKENS\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\x80"
         "etyb\0\0\0",
         "byte", "9223372036854775808"},
        {"BNTOKENS\1\0\0\0\4\0\0\0\0\0\0\0\0\0\0\x40"
         "etyb\0\0\0",
         "byte", "4611686018427387904"},
        {"BNTOKENS\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0"
         "etyb\0\0\0",
         "byte", "0 tokens"},
        {"BNTOKENS\1\0\0\0\3\0\0\0\4\0\0\0\0\0\0\0"
         "etyb\0\0\0",
         "byte", "3 bytes per token"},
        {"BNTOKENS\2\0\0\0\1\0\0\0\4\0\0\0\0\0\0\0"
         "etyb\0\0\0",
         "byte", "version 2"},
        {"BNTOKENS\1\0\0\0\1\0\0\0\4\0\0\0\0\0\0\0"
         "etyb\0\0\0",
         "../../x", "made with tokenizer"},
        {"BNTOKENS\1\0\0\0\1\0\0\0\4\0\0\0\0\0\0\0"
         "etyb\0\0\0",
         "\x1b[2J", "not printable"},
        {"BNTOKENS\1\0\0\0\4\0\0\0\1\0\0\0\0\0\0\0"
         "etyb\0\0\0",
         "byte", "token 0 is 67305985"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char bytes[68] = {0};
        memcpy(bytes, cases[i].header, 32);
        memcpy(bytes + 32, cases[i].name, strlen(cases[i].name));
        memcpy(bytes + 64, "\1\2\3\4", 4);
        spill("evil.bnt", bytes, sizeof bytes);
        REFUSED(cases[i].message, "bitnet-eval", "good-b3.h5", "--data", "evil.bnt", "--device",
                "cpu");
        REFUSED(cases[i].message, "bitnet-train", "config.json", "--set", "data.train=evil.bnt",
                "--device", "cpu", "--quiet", "--output-dir", "new");
    }
}

#define KIND ", \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}"

static void test_tokenizers(void **state)
{
    static const char *const cases[][2] = {
        {"{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}" KIND, "a"},
        {"{\"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}" KIND, "expected an id"},
        {"{\"model\": {\"vocab\": {\"a\": 9223372036854775808}, \"merges\": []}" KIND,
         "expected an id"},
        {"{\"model\": {\"vocab\": {\"a\": 16777215}, \"merges\": []}" KIND, "in a vocabulary of"},
        {"{\"model\": {\"vocab\": {\"\": 0}, \"merges\": []}" KIND, "0 bytes"},
        {"{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}, \"model\": {}" KIND, "model"},
        {"{", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("evil.json", cases[i][0]);
        REFUSED(cases[i][1], "bitnet-train", "config.json", "--set", "data.tokenizer=evil.json",
                "--device", "cpu", "--quiet", "--output-dir", "new");
    }
}

/* ---- Hugging Face folders ---- */

#define HF_CONFIG                                                                                  \
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 32, " \
    "\"intermediate_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "            \
    "\"vocab_size\": 256, \"hidden_act\": \"silu\""

/* A safetensors file of this header, and eight bytes of data. */
static void write_safetensors(const char *path, const char *header)
{
    char bytes[1024];
    const size_t length = strlen(header);
    assert_true(length + 16 <= sizeof bytes);
    memset(bytes, 0, sizeof bytes);
    bytes[0] = (char)(length & 0xff);
    bytes[1] = (char)(length >> 8);
    memcpy(bytes + 8, header, length);
    spill(path, bytes, length + 16);
}

static void test_folders(void **state)
{
    static const struct {
        const char *config, *header, *index, *message;
    } cases[] = {
        {HF_CONFIG ", \"hidden_size\": 64}", NULL, NULL, "hidden_size"},
        {HF_CONFIG ", \"rope_theta\": 1e999}", NULL, NULL, ""},
        {HF_CONFIG "}",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775808],"
         "\"data_offsets\":[0,8]}}",
         NULL, "whole number"},
        {HF_CONFIG "}",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
         "\"data_offsets\":[0,8]}}",
         NULL, "more elements than"},
        {HF_CONFIG "}",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
         NULL, "a"},
        {HF_CONFIG "}", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", NULL,
         "within 8 bytes"},
        {HF_CONFIG "}",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
         NULL, "starts at byte 0"},
        {HF_CONFIG "}", NULL, "{\"weight_map\":{\"a\":\"../../../etc/passwd\"}}",
         "expected the name of a file in the same folder"},
        {HF_CONFIG "}", NULL, "{\"weight_map\":{\"a\":\"/etc/passwd\"}}",
         "expected the name of a file in the same folder"},
        {HF_CONFIG "}", NULL, "{\"weight_map\":{\"a\":\"..\"}}",
         "expected the name of a file in the same folder"},
    };
    (void)state;
    mkdir("folder", 0777);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("folder/config.json", cases[i].config);
        write_safetensors("folder/model.safetensors", cases[i].header ? cases[i].header : "{}");
        unlink("folder/model.safetensors.index.json");
        if (cases[i].index)
            write_text("folder/model.safetensors.index.json", cases[i].index);
        REFUSED(cases[i].message, "bitnet-import", "folder", "-o", "new", "--tokenizer", "byte");
    }
    /* A header that is longer than the file. */
    unlink("folder/model.safetensors.index.json");
    spill("folder/model.safetensors", "\0\0\0\0\0\0\0\x80{}", 10);
    REFUSED("header of 9223372036854775808 bytes", "bitnet-import", "folder", "-o", "new",
            "--tokenizer", "byte");
}

/* ---- adapters ---- */

static void show_adapter(const char *path, const char *message)
{
    REFUSED(message, "bitnet-generate", "good-b3.h5", "--adapter", path, "-p", "a", "-n", "1",
            "--device", "cpu");
    REFUSED(message, "bitnet-eval", "good-b3.h5", "--adapter", path, "--data", "text.txt",
            "--device", "cpu", "--untrusted");
    REFUSED(message, "bitnet-adapter", path, "--base", "good-b3.h5", "-o", "new", "--device",
            "cpu");
}

static void test_adapters(void **state)
{
    static const float nan_value = NAN;
    static const char array[] = "params/model.layers.0.self_attn.q_proj.lora_A.weight";
    static const struct {
        const char *config, *header, *message;
    } cases[] = {
        {"{\"peft_type\": \"LORA\", \"r\": 1e300, \"lora_alpha\": 1}", "{}", "adapter.r"},
        {"{\"peft_type\": \"LORA\", \"r\": 1, \"r\": 2, \"lora_alpha\": 1}", "{}", "given twice"},
        {"{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 1, \"use_dora\": true}", "{}",
         "use_dora"},
        {"{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 1}",
         "{\"../../q\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "../../q"},
        {"{\"peft_type\": \"LORA\", \"r\": 65536, \"lora_alpha\": 1}",
         "{\"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F32\","
         "\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\":{\"dtype\":\"F32\","
         "\"shape\":[1],\"data_offsets\":[4,8]}}",
         "expected shape [65536, 32]"},
    };
    (void)state;
    mkdir("peft", 0777);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("peft/adapter_config.json", cases[i].config);
        write_safetensors("peft/adapter_model.safetensors", cases[i].header);
        show_adapter("peft", cases[i].message);
    }
    write_text("peft/base.sha256", "0123");
    show_adapter("peft", "is not the model that the adapter was trained on");
    for (int i = 0; i < h5_attack_count; i++) {
        copy("good-adapter.h5", "evil.h5");
        hid_t file = h5_attack_open("evil.h5");
        h5_attacks[i].change(file, array);
        H5Fclose(file);
        REFUSED(h5_attacks[i].message, "bitnet-generate", "good-b3.h5", "--adapter", "evil.h5",
                "-p", "a", "-n", "1", "--device", "cpu");
    }
    copy("good-adapter.h5", "evil.h5");
    hid_t file = h5_attack_open("evil.h5");
    h5_attack_poke(file, array, 0, &nan_value, 4);
    h5_attack_repair(file, array);
    H5Fclose(file);
    show_adapter("evil.h5", "element 0: expected finite");
    REFUSED("is not the model that the adapter was trained on", "bitnet-generate", "good-int3.h5",
            "--adapter", "good-adapter.h5", "-p", "a", "-n", "1", "--device", "cpu");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),  cmocka_unit_test(test_values),
        cmocka_unit_test(test_texts),      cmocka_unit_test(test_shards),
        cmocka_unit_test(test_tokenizers), cmocka_unit_test(test_folders),
        cmocka_unit_test(test_adapters),
    };
    return cmocka_run_group_tests(tests, train, NULL);
}
