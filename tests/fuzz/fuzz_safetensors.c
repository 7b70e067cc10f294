/* A safetensors file: header, places, every float. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "interop/safetensors.h"

static void read_tensor(const bn_st_tensor *t)
{
    unsigned sum = 0;
    for (int64_t i = 0; i < t->count * bn_st_dtype_size(t->dtype); i++)
        sum += t->data[i]; /* all of it lies in the file */
    float *values = malloc(((size_t)t->count + 1) * sizeof *values);
    if (!values)
        fuzz_broken("no memory");
    *values = (float)sum;
    (void)fuzz_status(bn_st_read_f32(t, values), BN_OK);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bn_st_reader *reader;
    if (!fuzz_status(bn_st_open(fuzz_file("model.safetensors", data, size), &reader), BN_OK))
        return 0;
    for (int i = 0; i < bn_st_count(reader); i++) {
        const bn_st_tensor *t = bn_st_at(reader, i);
        if (bn_st_find(reader, t->name) != t)
            fuzz_broken("a tensor that is not found by its name");
        read_tensor(t);
    }
    bn_st_close(reader);
    return 0;
}

void fuzz_seeds(void)
{
    const bn_st_spec specs[] = {{"model.norm.weight", BN_ST_F32, 1, {3}},
                                {"model.embed_tokens.weight", BN_ST_BF16, 2, {2, 2}},
                                {"codes", BN_ST_U8, 1, {2}},
                                {"scalar", BN_ST_F16, 0, {0}},
                                {"none", BN_ST_I64, 2, {0, 5}}};
    const float values[4] = {1, -2, 0.5f, 3};
    const char *path = fuzz_path("seed.safetensors");
    bn_st_writer *writer;
    if (bn_st_create(path, specs, 5, "pt", &writer) != BN_OK ||
        bn_st_write_f32(writer, BN_ST_F32, values, 3) != BN_OK ||
        bn_st_write_f32(writer, BN_ST_BF16, values, 4) != BN_OK ||
        bn_st_write(writer, "\1\2", 2) != BN_OK ||
        bn_st_write_f32(writer, BN_ST_F16, values, 1) != BN_OK || bn_st_commit(writer) != BN_OK)
        fuzz_broken("cannot write a safetensors file");
    fuzz_seed_file("five.safetensors", path);
    fuzz_seed("none.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
}
