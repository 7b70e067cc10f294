/* An adapter of PEFT over a small base: adapter_config.json, a zero byte, and
 * adapter_model.safetensors. What is accepted is written and read again. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "cpu/cpu.h"
#include "fuzz.h"
#include "model/peft.h"

static const char config_name[] = "adapter_config.json";
static const char weights_name[] = "adapter_model.safetensors";

/* The base, made once and kept to the end. */
static const bn_adapter_base *base_model(void)
{
    static const char json[] =
        "{\"model\": {\"hidden_size\": 8, \"intermediate_size\": 16, \"num_hidden_layers\": 1, "
        "\"num_attention_heads\": 2, \"max_position_embeddings\": 8}, "
        "\"quantization\": {\"weight_bits\": \"none\", \"activation_bits\": \"none\"}, "
        "\"training\": {\"seq_len\": 8}}";
    static bn_config config;
    static bn_adapter_base base = {.config = &config, .path = "base"};
    static bn_backend *backend;
    if (!base.model &&
        (bn_config_parse(json, "base", &config) != BN_OK ||
         bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend) != BN_OK ||
         bn_model_create(&config, 16, backend, BN_MODEL_FLOAT, &base.model) != BN_OK ||
         bn_model_alloc(base.model, false) != BN_OK || bn_model_init(base.model, 1) != BN_OK))
        fuzz_broken("cannot make the base");
    return &base;
}

static void check_same(const bn_adapter *a, const bn_adapter *b)
{
    if (a->params.count != b->params.count)
        fuzz_broken("other layers than were written");
    for (int i = 0; i < a->params.count; i++) {
        const bn_tensor *x = &a->params.items[i]->value, *y = &b->params.items[i]->value;
        if (!bn_tensor_same_shape(x, y) ||
            memcmp(bn_tensor_data(x), bn_tensor_data(y), bn_tensor_bytes(x)) != 0)
            fuzz_broken("other numbers than were written");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const bn_adapter_base *base = base_model();
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t first = zero ? (size_t)(zero - data) : size;
    bn_adapter *adapter = NULL, *again = NULL;
    fuzz_write(fuzz_path(config_name), data, first);
    fuzz_write(fuzz_path(weights_name), data + first + !!zero, size - first - !!zero);
    if (fuzz_status(bn_peft_read(fuzz_path(""), base, &adapter), BN_OK)) {
        if (bn_peft_write(adapter, fuzz_path("again"), base) != BN_OK ||
            bn_peft_read(fuzz_path("again"), base, &again) != BN_OK)
            fuzz_broken("an adapter was accepted that cannot be kept");
        check_same(adapter, again);
    }
    bn_adapter_free(adapter);
    bn_adapter_free(again);
    return 0;
}

/* As the project's own writer makes it, of all layers or of one. */
static void seed(const char *name, const char *targets, const char *rank)
{
    const bn_adapter_base *base = base_model();
    bn_config config;
    bn_adapter *adapter;
    const char *const paths[] = {fuzz_path(config_name), fuzz_path(weights_name)};
    char *both = NULL;
    size_t size = 0;
    if (bn_config_copy(base->config, &config) != BN_OK ||
        bn_config_set(&config, targets) != BN_OK || bn_config_set(&config, rank) != BN_OK ||
        bn_adapter_new(&config, base->model, &adapter) != BN_OK ||
        bn_adapter_alloc(adapter, false) != BN_OK || bn_adapter_init(adapter, 1) != BN_OK ||
        bn_peft_write(adapter, fuzz_path(""), base) != BN_OK)
        fuzz_broken("cannot write an adapter");
    for (int i = 0; i < 2; i++) {
        char *part;
        size_t part_size;
        if (bn_fs_read(paths[i], 1 << 20, &part, &part_size) != BN_OK)
            fuzz_broken("cannot read an adapter's file");
        both = realloc(both, size + part_size + 1);
        if (!both)
            fuzz_broken("no memory");
        memcpy(both + size, part, part_size);
        size += part_size;
        both[size++] = '\0';
        free(part);
    }
    fuzz_seed(name, both, size - 1);
    free(both);
    bn_adapter_free(adapter);
    bn_config_clear(&config);
}

void fuzz_seeds(void)
{
    seed("all", "adapter.target_modules=*", "adapter.r=1");
    seed("one", "adapter.target_modules=q_proj", "adapter.r=2");
    /* the base's identity belongs to another test: without it any base is the right one */
    if (bn_fs_remove(fuzz_path("base.sha256")) != BN_OK)
        fuzz_broken("cannot remove a file");
}
