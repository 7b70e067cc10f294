/* A packed model: structure, every code, scale and float; what a tokenizer and
 * a config in it lead to is for the targets "tokenizer" and "config". */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/packed.h"
#include "fuzz_h5.h"
#include "quant/pack.h"
#include "quant/quantize.h"

enum { BYTES_MAX = 64 << 20 };

static void write_valid(const char *path)
{
    static const uint8_t codes[2 * 9] = {
        0x55, 0x66, 0x24, 0x99, 0x55, 0x12, 0x55, 0x66, 0x55, /* 36 columns */
        0x05, 0x60, 0x54, 0x19, 0x95, 0x52, 0x15, 0x62, 0x45};
    static const float scales[4] = {0.5f, 0.25f, 1.0f, 2.0f};
    static const float floats[6] = {1, -2, 3, 0.5f, -0.25f, 0};
    static const bn_packed_info info = {"{}", "byte", "fuzz"};
    const bn_packed_tensor tensors[] = {
        {.name = "a.weight",
         .encoding = BN_ENC_TERNARY2,
         .ndim = 2,
         .shape = {2, 36},
         .group_size = 32,
         .codes = codes,
         .data = scales},
        {.name = "b.weight",
         .encoding = BN_ENC_BASE3X5,
         .ndim = 2,
         .shape = {2, 36},
         .group_size = -1,
         .codes = codes,
         .data = scales},
        {.name = "c.weight",
         .encoding = BN_ENC_BASE3X5,
         .ndim = 2,
         .shape = {1, 36},
         .group_size = 0,
         .codes = codes,
         .data = scales},
        {.name = "norm.weight",
         .encoding = BN_ENC_FLOAT32,
         .ndim = 1,
         .shape = {6},
         .data = floats},
        {.name = "embed.weight",
         .encoding = BN_ENC_BFLOAT16,
         .ndim = 2,
         .shape = {2, 3},
         .data = floats},
        {.name = "half.weight",
         .encoding = BN_ENC_FLOAT16,
         .ndim = 2,
         .shape = {3, 2},
         .data = floats},
    };
    if (bn_packed_write(path, &info, tensors, sizeof tensors / sizeof *tensors, 6) != BN_OK)
        fuzz_broken("cannot write a packed file");
}

static void read_ternary(bn_packed *p, const bn_packed_entry *e)
{
    const int64_t out = e->shape[0], in = e->shape[1];
    const int64_t scales = bn_scale_count(out, in, e->group_size);
    bn_code_fault fault;
    uint8_t *codes = malloc((size_t)(out * bn_t2_row_bytes(in)));
    float *scale = malloc((size_t)scales * sizeof *scale);
    if (!codes || !scale)
        fuzz_broken("no memory");
    if (fuzz_status(bn_packed_read_codes(p, e, codes, scale), BN_OK)) {
        if (!bn_t2_check(codes, out, in, &fault))
            fuzz_broken("a code that is none was accepted");
        for (int64_t i = 0; i < scales; i++)
            if (!(scale[i] > 0 && isfinite(scale[i])))
                fuzz_broken("a scale that is none was accepted");
    }
    free(codes);
    free(scale);
}

static void read_float(bn_packed *p, const bn_packed_entry *e)
{
    int64_t n = 1;
    for (int i = 0; i < e->ndim; i++)
        n *= e->shape[i];
    float *data = malloc((size_t)n * sizeof *data);
    if (!data)
        fuzz_broken("no memory");
    if (fuzz_status(bn_packed_read_float(p, e, data), BN_OK))
        for (int64_t i = 0; i < n; i++)
            if (!isfinite(data[i]))
                fuzz_broken("a float that is not finite was accepted");
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bn_packed *p;
    bn_model_file kind;
    const char *path = fuzz_h5_file(data, size, write_valid);
    (void)fuzz_status(bn_model_file_kind(path, &kind), BN_OK);
    if (!fuzz_status(bn_packed_open(path, &p), BN_OK))
        return 0;
    for (int i = 0; i < bn_packed_count(p); i++) {
        const bn_packed_entry *e = bn_packed_at(p, i);
        if (bn_packed_find(p, e->name) != e)
            fuzz_broken("a tensor that is not found by its name");
        if (e->stored_bytes > BYTES_MAX)
            fuzz_broken("more bytes than the file has");
        if (bn_encoding_is_codes(e->encoding))
            read_ternary(p, e);
        else
            read_float(p, e);
    }
    bn_packed_close(p);
    return 0;
}

void fuzz_seeds(void)
{
    fuzz_h5_seeds(write_valid);
}
