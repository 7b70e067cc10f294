/* Blocks of GGUF tensors: against their definitions, bit by bit. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "cmocka_all.h"
#include "interop/gguf_types.h"

enum { BLOCKS = 40 };

static const bn_gguf_type code_types[] = {BN_GGUF_TQ1_0, BN_GGUF_TQ2_0, BN_GGUF_Q4_0};

static void random_codes(bn_rng *rng, int8_t codes[256])
{
    for (int i = 0; i < 256; i++)
        codes[i] = (int8_t)((int)bn_rng_below(rng, 3) - 1);
}

static void test_codes_round_trip(void **state)
{
    (void)state;
    bn_rng rng = bn_rng_of(1, 0);
    for (int t = 0; t < 3; t++)
        for (int block = 0; block < BLOCKS; block++) {
            int8_t codes[256], found[256];
            uint8_t bytes[66];
            float values[256], scale;
            const int length = bn_gguf_block_length(code_types[t]);
            random_codes(&rng, codes);
            memset(bytes, 0xa5, sizeof bytes);
            bn_gguf_encode_codes(code_types[t], codes, 0.75f, bytes);
            for (int i = bn_gguf_block_bytes(code_types[t]); i < 66; i++)
                assert_int_equal(bytes[i], 0xa5);
            assert_true(bn_gguf_decode_codes(code_types[t], bytes, found, &scale));
            assert_memory_equal(found, codes, (size_t)length);
            assert_true(scale == 0.75f);
            bn_gguf_decode(code_types[t], bytes, length, values);
            for (int i = 0; i < length; i++)
                assert_true(values[i] == 0.75f * (float)codes[i]);
        }
}

/* One element set at a time: where its bits are. */
static void test_tq2_layout(void **state)
{
    (void)state;
    for (int n = 0; n < 256; n++) {
        int8_t codes[256];
        uint8_t bytes[66];
        memset(codes, -1, sizeof codes);
        codes[n] = 1;
        bn_gguf_encode_codes(BN_GGUF_TQ2_0, codes, 1, bytes);
        for (int b = 0; b < 64; b++) {
            const bool here = b == 32 * (n / 128) + n % 32;
            assert_int_equal(bytes[b], here ? 2 << 2 * (n % 128 / 32) : 0);
        }
        assert_int_equal(bytes[64] | bytes[65] << 8, 0x3c00);
    }
}

static void test_q4_layout(void **state)
{
    (void)state;
    int8_t codes[32] = {0};
    uint8_t bytes[18];
    codes[3] = -1;
    codes[19] = 1;
    bn_gguf_encode_codes(BN_GGUF_Q4_0, codes, -2, bytes);
    assert_int_equal(bytes[0] | bytes[1] << 8, 0xc000);
    for (int j = 0; j < 16; j++)
        assert_int_equal(bytes[2 + j], j == 3 ? 0x97 : 0x88);
}

/* The bytes of TQ1_0 by hand: all -1 is 0; all +1 is ceil(256 * 242 / 243), of
 * four elements ceil(256 * 240 / 243); one +1 at the first place of five adds
 * 162, at the last 2. */
static void test_tq1_layout(void **state)
{
    (void)state;
    int8_t codes[256];
    uint8_t bytes[54];
    memset(codes, -1, sizeof codes);
    bn_gguf_encode_codes(BN_GGUF_TQ1_0, codes, 1, bytes);
    for (int b = 0; b < 52; b++)
        assert_int_equal(bytes[b], 0);
    codes[5] = 1;            /* byte 5, first */
    codes[128 + 6] = 1;      /* byte 6, fifth */
    codes[160 + 7] = 1;      /* byte 39, first */
    codes[240 + 2 + 12] = 1; /* byte 50, fourth */
    bn_gguf_encode_codes(BN_GGUF_TQ1_0, codes, 1, bytes);
    assert_int_equal(bytes[5], 171); /* 256*162/243 = 170.7 */
    assert_int_equal(bytes[6], 3);   /* 2.1 */
    assert_int_equal(bytes[39], 171);
    assert_int_equal(bytes[50], 7); /* 256*6/243 = 6.3 */
    memset(codes, 1, sizeof codes);
    bn_gguf_encode_codes(BN_GGUF_TQ1_0, codes, 1, bytes);
    for (int b = 0; b < 52; b++)
        assert_int_equal(bytes[b], b < 48 ? 255 : 253); /* 254.9, 252.8 */
}

static void test_foreign_codes(void **state)
{
    (void)state;
    int8_t codes[256];
    uint8_t bytes[66] = {0};
    float scale;
    memset(bytes + 2, 0x88, 16);
    assert_true(bn_gguf_decode_codes(BN_GGUF_Q4_0, bytes, codes, &scale));
    bytes[9] = 0x58;
    assert_false(bn_gguf_decode_codes(BN_GGUF_Q4_0, bytes, codes, &scale));
    memset(bytes, 0, sizeof bytes);
    assert_true(bn_gguf_decode_codes(BN_GGUF_TQ2_0, bytes, codes, &scale));
    bytes[63] = 0xc0;
    assert_false(bn_gguf_decode_codes(BN_GGUF_TQ2_0, bytes, codes, &scale));
}

static void test_numbers(void **state)
{
    (void)state;
    const float values[] = {1, -2.5f, 65504, 3.0517578125e-5f};
    float found[4];
    uint8_t bytes[16];
    const bn_gguf_type exact[] = {BN_GGUF_F32, BN_GGUF_F16};
    for (int t = 0; t < 2; t++) {
        bn_gguf_encode(exact[t], values, 4, bytes);
        bn_gguf_decode(exact[t], bytes, 4, found);
        assert_memory_equal(found, values, sizeof values);
    }
    bn_gguf_encode(BN_GGUF_BF16, values, 4, bytes);
    bn_gguf_decode(BN_GGUF_BF16, bytes, 4, found);
    assert_true(found[0] == 1 && found[1] == -2.5f && found[2] == 65536);
}

/* No code is further from its value than half a step. */
static void test_q8(void **state)
{
    (void)state;
    bn_rng rng = bn_rng_of(2, 0);
    float values[64], found[64];
    uint8_t bytes[68];
    for (int i = 0; i < 32; i++) {
        values[i] = (float)bn_rng_below(&rng, 2001) / 500 - 2;
        values[32 + i] = 0;
    }
    bn_gguf_encode(BN_GGUF_Q8_0, values, 64, bytes);
    bn_gguf_decode(BN_GGUF_Q8_0, bytes, 64, found);
    for (int i = 0; i < 32; i++) {
        assert_true(fabsf(found[i] - values[i]) <= 2.0f / 127 / 2 * 1.001f);
        assert_true(found[32 + i] == 0);
    }
}

static void test_names(void **state)
{
    (void)state;
    bn_gguf_type type;
    assert_true(bn_gguf_type_find("tq2_0", &type));
    assert_int_equal(type, BN_GGUF_TQ2_0);
    assert_false(bn_gguf_type_find("q4", &type));
    assert_null(bn_gguf_type_name((bn_gguf_type)4));
    assert_null(bn_gguf_type_name((bn_gguf_type)1000));
    assert_int_equal(bn_gguf_block_bytes(BN_GGUF_TQ1_0), 54);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_round_trip),
        cmocka_unit_test(test_tq2_layout),
        cmocka_unit_test(test_q4_layout),
        cmocka_unit_test(test_tq1_layout),
        cmocka_unit_test(test_foreign_codes),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_q8),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
