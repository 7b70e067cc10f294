/* A Hugging Face folder without weights: config.json, a zero byte, and the
 * index of its safetensors files, of which two exist. */
#include <string.h>
#include <stdlib.h>

#include "fuzz.h"
#include "interop/hf_config.h"
#include "interop/safetensors.h"

static const char index_name[] = "model.safetensors.index.json";

static void write_shard(const char *name, const char *tensor)
{
    const bn_st_spec spec = {tensor, BN_ST_U8, 1, {1}};
    bn_st_writer *writer;
    if (bn_st_create(fuzz_path(name), &spec, 1, "pt", &writer) != BN_OK ||
        bn_st_write(writer, "x", 1) != BN_OK || bn_st_commit(writer) != BN_OK)
        fuzz_broken("cannot write a safetensors file");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready) {
        write_shard("1.safetensors", "a");
        write_shard("2.safetensors", "b");
        ready = true;
    }
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t first = zero ? (size_t)(zero - data) : size;
    bn_hf_model model;
    const bn_strings none = {0};
    if (fuzz_status(bn_hf_config_read(fuzz_file("config.json", data, first), &none, &model),
                    BN_BAD_CONFIG)) {
        if (bn_config_check(&model.config, "config.json") != BN_OK)
            fuzz_broken("a config was accepted that does not fit");
        bn_hf_model_clear(&model);
    }
    if (zero) {
        bn_st_reader *reader;
        fuzz_write(fuzz_path(index_name), zero + 1, size - first - 1);
        if (fuzz_status(bn_st_open_dir(fuzz_path(""), &reader), BN_NO_INPUT)) {
            if (bn_st_count(reader) > 2)
                fuzz_broken("tensors from nowhere");
            bn_st_close(reader);
        }
    }
    return 0;
}

static void seed(const char *name, const char *config, const char *index)
{
    const size_t a = strlen(config) + 1, b = strlen(index);
    char *both = malloc(a + b + 1);
    if (!both)
        fuzz_broken("no memory");
    memcpy(both, config, a);
    memcpy(both + a, index, b + 1);
    fuzz_seed(name, both, a + b);
    free(both);
}

void fuzz_seeds(void)
{
    static const char two[] = "{\"metadata\":{\"total_size\":2},\"weight_map\":{\"a\":"
                              "\"1.safetensors\",\"b\":\"2.safetensors\"}}";
    const bn_strings none = {0};
    const bn_hf_weights forms[] = {BN_HF_FLOAT, BN_HF_ONLINE, BN_HF_OFFLINE};
    const char *const names[] = {"float", "online", "offline"};
    for (int i = 0; i < 3; i++) {
        const bn_hf_layout layout = {forms[i], "float32", &none};
        bn_config config;
        char *json;
        if (bn_config_init(&config) != BN_OK ||
            bn_hf_config_write(&config, 256, &layout, &json) != BN_OK)
            fuzz_broken("cannot write a config.json");
        seed(names[i], json, two);
        free(json);
        bn_config_clear(&config);
    }
    seed("1bitllm",
         "{\"architectures\":[\"BitnetForCausalLM\"],\"model_type\":\"llama\",\"weight_bits\":1,"
         "\"input_bits\":8,\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":2,"
         "\"num_attention_heads\":2,\"vocab_size\":256,\"hidden_act\":\"silu\"}",
         "{\"weight_map\":{\"a\":\"../1.safetensors\"}}");
    seed("llama",
         "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":64,"
         "\"intermediate_size\":128,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
         "\"vocab_size\":256,\"hidden_act\":\"silu\",\"rope_scaling\":null}",
         "{\"weight_map\":{}}");
}
