/* A GGUF file: keys, places, every block that is decoded. */
#include <stdlib.h>

#include "fuzz.h"
#include "interop/gguf.h"

static volatile unsigned seen; /* so that no read is left out */

static void read_value(const bn_gguf_value *v)
{
    const unsigned char *at = v->data;
    unsigned sum = 0;
    uint64_t bytes;
    for (uint64_t i = 0; i < v->count; i++)
        if (v->kind == BN_GGUF_STRING) {
            const char *text = bn_gguf_next_string(&at, &bytes);
            for (uint64_t k = 0; k < bytes; k++)
                sum += (unsigned char)text[k];
        } else {
            sum += bn_gguf_number(v, i) > 0;
        }
    seen = sum;
}

static void read_tensor(const bn_gguf_tensor *t)
{
    int8_t codes[BN_GGUF_BLOCK_MAX];
    float scale;
    unsigned sum = 0;
    for (uint64_t i = 0; i < t->bytes; i++)
        sum += t->data[i]; /* all of it lies in the file */
    seen = sum;
    if (!bn_gguf_is_decoded(t->type))
        return;
    float *values = malloc(((size_t)t->count + 1) * sizeof *values);
    if (!values)
        fuzz_broken("no memory");
    bn_gguf_decode(t->type, t->data, t->count, values);
    free(values);
    if (bn_gguf_holds_codes(t->type))
        for (uint64_t i = 0; i < t->bytes; i += (uint64_t)bn_gguf_block_bytes(t->type))
            (void)bn_gguf_decode_codes(t->type, t->data + i, codes, &scale);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bn_gguf *file;
    if (!fuzz_status(bn_gguf_open(fuzz_file("model.gguf", data, size), &file), BN_OK))
        return 0;
    for (int i = 0; i < bn_gguf_value_count(file); i++) {
        const bn_gguf_value *v = bn_gguf_value_at(file, i);
        if (bn_gguf_value_find(file, v->key) != v)
            fuzz_broken("a key that is not found by its name");
        read_value(v);
    }
    for (int i = 0; i < bn_gguf_tensor_count(file); i++) {
        const bn_gguf_tensor *t = bn_gguf_tensor_at(file, i);
        if (bn_gguf_tensor_find(file, t->name) != t)
            fuzz_broken("a tensor that is not found by its name");
        read_tensor(t);
    }
    bn_gguf_close(file);
    return 0;
}

void fuzz_seeds(void)
{
    const bn_gguf_spec specs[] = {{"a", BN_GGUF_TQ2_0, 2, {1, 256}},
                                  {"b", BN_GGUF_TQ1_0, 2, {1, 256}},
                                  {"c", BN_GGUF_Q4_0, 1, {32}},
                                  {"d", BN_GGUF_F16, 1, {3}}};
    const uint8_t zeros[66] = {0};
    const char *path = fuzz_path("seed.gguf");
    bn_gguf_meta meta = {0};
    bn_gguf_writer *w;
    bn_gguf_meta_u32(&meta, "general.alignment", 32);
    bn_gguf_meta_array(&meta, "words", BN_GGUF_STRING, 2);
    bn_gguf_item_string(&meta, "one", 3);
    bn_gguf_item_string(&meta, "", 0);
    bn_gguf_meta_bool(&meta, "yes", true);
    if (bn_gguf_create(path, &meta, specs, 4, &w) != BN_OK ||
        bn_gguf_write(w, zeros, 66) != BN_OK || bn_gguf_write(w, zeros, 54) != BN_OK ||
        bn_gguf_write(w, zeros, 18) != BN_OK || bn_gguf_write(w, zeros, 6) != BN_OK ||
        bn_gguf_finish(w, BN_OK) != BN_OK)
        fuzz_broken("cannot write a GGUF file");
    bn_gguf_meta_clear(&meta);
    fuzz_seed_file("four.gguf", path);
}
