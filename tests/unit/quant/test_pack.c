/* Both encodings: every byte, every padding, every fault. */
#include <cmocka_all.h>
#include <string.h>

#include "base/rng.h"
#include "quant/pack.h"

enum { ROWS = 5, COLS_MAX = 41 };

static void random_codes(int8_t *codes, int64_t n, uint64_t seed)
{
    bn_rng rng = bn_rng_of(seed, 0);
    for (int64_t i = 0; i < n; i++)
        codes[i] = (int8_t)((int)bn_rng_below(&rng, 3) - 1);
}

static void test_round_trips(void **state)
{
    int8_t codes[ROWS * COLS_MAX], back[ROWS * COLS_MAX];
    uint8_t t2[ROWS * COLS_MAX], b3[ROWS * COLS_MAX], again[ROWS * COLS_MAX];
    bn_code_fault fault;
    (void)state;
    for (int64_t cols = 1; cols <= COLS_MAX; cols++) {
        const size_t t2_bytes = (size_t)(ROWS * bn_t2_row_bytes(cols));
        random_codes(codes, ROWS * cols, (uint64_t)cols);
        memset(t2, 0xff, sizeof t2);
        bn_t2_pack(codes, ROWS, cols, t2);
        assert_true(bn_t2_check(t2, ROWS, cols, &fault));
        bn_t2_unpack(t2, 0, ROWS, cols, back);
        assert_memory_equal(back, codes, (size_t)(ROWS * cols));
        bn_t2_unpack(t2, 3, 2, cols, back); /* a range of rows */
        assert_memory_equal(back, codes + 3 * cols, (size_t)(2 * cols));
        if (cols > 2) {
            bn_t2_unpack_span(t2 + bn_t2_row_bytes(cols), 1, cols - 2, back);
            assert_memory_equal(back, codes + cols + 1, (size_t)(cols - 2));
        }
        bn_b3_from_t2(t2, ROWS, cols, b3);
        assert_true(bn_b3_check(b3, ROWS, cols, &fault));
        memset(again, 0xff, sizeof again);
        bn_b3_to_t2(b3, ROWS, cols, again);
        assert_memory_equal(again, t2, t2_bytes);
    }
}

/* Codes of every grid through bit fields; every other number is refused. */
static void test_bit_fields(void **state)
{
    uint8_t codes[ROWS * COLS_MAX], back[ROWS * COLS_MAX], fields[ROWS * COLS_MAX];
    bn_code_fault fault;
    (void)state;
    for (int grid = 0; grid < BN_GRID_COUNT; grid++)
        for (int64_t cols = 1; cols <= COLS_MAX; cols++) {
            const bn_grid_info *g = &bn_grid_table[grid];
            const int64_t bytes = bn_bits_row_bytes((bn_grid)grid, cols);
            int8_t numbers[ROWS * COLS_MAX];
            bn_rng rng = bn_rng_of((uint64_t)grid, (uint64_t)cols);
            for (int64_t i = 0; i < ROWS * cols; i++)
                numbers[i] =
                    (int8_t)(g->odd ? 2 * (int)bn_rng_below(&rng, (uint64_t)g->max + 1) - g->max
                                    : (int)bn_rng_below(&rng, 2 * (uint64_t)g->max + 1) - g->max);
            if (bn_grid_dtype((bn_grid)grid) == BN_T2)
                bn_t2_pack(numbers, ROWS, cols, codes);
            else
                memcpy(codes, numbers, (size_t)(ROWS * cols));
            assert_int_equal(bytes, (cols * g->bits + 7) / 8);
            assert_true(bn_codes_check((bn_grid)grid, codes, ROWS, cols, &fault));
            bn_bits_pack((bn_grid)grid, codes, ROWS, cols, fields);
            assert_true(bn_bits_check((bn_grid)grid, fields, ROWS, cols, &fault));
            bn_bits_unpack((bn_grid)grid, fields, ROWS, cols, back);
            assert_memory_equal(back, codes,
                                (size_t)(ROWS * bn_grid_row_bytes((bn_grid)grid, cols)));
            for (int64_t bit = cols * g->bits; bit < 8 * bytes; bit++) {
                fields[bytes - 1] ^= (uint8_t)(1 << bit % 8);
                assert_false(bn_bits_check((bn_grid)grid, fields, ROWS, cols, &fault));
                assert_true(fault.padding);
                fields[bytes - 1] ^= (uint8_t)(1 << bit % 8);
            }
        }
}

/* 3 bits by hand: codes -3, 3, 0, 1 are fields 0, 6, 3, 4, the third in two bytes. */
static void test_bit_fields_by_hand(void **state)
{
    const int8_t codes[4] = {-3, 3, 0, 1}, even[2] = {1, 2}, large[2] = {-7, -8};
    uint8_t fields[2];
    bn_code_fault fault;
    (void)state;
    bn_bits_pack(BN_GRID_INT3, codes, 1, 4, fields);
    assert_int_equal(fields[0], 0 | 6 << 3 | (3 & 3) << 6);
    assert_int_equal(fields[1], 3 >> 2 | 4 << 1);
    fields[0] |= 7;
    assert_false(bn_bits_check(BN_GRID_INT3, fields, 1, 4, &fault));
    assert_int_equal(fault.value, 7);
    assert_false(bn_codes_check(BN_GRID_INT2, even, 1, 2, &fault));
    assert_int_equal(fault.index, 1);
    assert_false(bn_codes_check(BN_GRID_INT4, large, 1, 2, &fault));
    assert_int_equal(fault.value, -8);
    fields[0] = 0x65; /* 0 among -1, +1 */
    assert_false(bn_codes_check(BN_GRID_BINARY, fields, 1, 2, &fault));
}

static void test_every_t2_byte(void **state)
{
    bn_code_fault fault;
    int8_t codes[4];
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        const uint8_t b = (uint8_t)byte;
        int first = -1;
        for (int i = 3; i >= 0; i--)
            if (((byte >> (2 * i)) & 3) == 3)
                first = i;
        assert_int_equal(bn_t2_check(&b, 1, 4, &fault), first < 0);
        if (first >= 0) {
            assert_int_equal(fault.index, first);
            assert_int_equal(fault.value, 3);
            assert_false(fault.padding);
            continue;
        }
        uint8_t back;
        bn_t2_unpack(&b, 0, 1, 4, codes);
        for (int i = 0; i < 4; i++)
            assert_int_equal(codes[i], ((byte >> (2 * i)) & 3) - 1);
        bn_t2_pack(codes, 1, 4, &back);
        assert_int_equal(back, byte);
    }
}

static void test_every_b3_byte(void **state)
{
    bn_code_fault fault;
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        const uint8_t b = (uint8_t)byte;
        uint8_t t2[2], back;
        int8_t codes[5];
        assert_int_equal(bn_b3_check(&b, 1, 5, &fault), byte <= 242);
        if (byte > 242) {
            assert_int_equal(fault.value, byte);
            assert_int_equal(fault.byte, 0);
            continue;
        }
        bn_b3_to_t2(&b, 1, 5, t2);
        assert_true(bn_t2_check(t2, 1, 5, &fault));
        bn_t2_unpack(t2, 0, 1, 5, codes);
        int value = 0;
        for (int i = 4; i >= 0; i--)
            value = 3 * value + codes[i] + 1;
        assert_int_equal(value, byte);
        bn_b3_from_t2(t2, 1, 5, &back);
        assert_int_equal(back, byte);
    }
}

static void test_padding_faults(void **state)
{
    bn_code_fault fault;
    (void)state;
    for (int cols = 1; cols <= 3; cols++)
        for (int k = cols; k < 4; k++)
            for (int field = 0; field < 4; field++) {
                const uint8_t b = (uint8_t)((BN_T2_ZERO_BYTE & ~(3 << (2 * k))) | field << (2 * k));
                assert_int_equal(bn_t2_check(&b, 1, cols, &fault), field == 1);
                if (field == 1)
                    continue;
                assert_true(fault.padding);
                assert_int_equal(fault.index, k);
                assert_int_equal(fault.value, field);
            }
    const int power[5] = {1, 3, 9, 27, 81};
    for (int cols = 1; cols <= 4; cols++)
        for (int k = cols; k < 5; k++)
            for (int trit = 0; trit < 3; trit++) {
                const uint8_t b = (uint8_t)(121 + (trit - 1) * power[k]); /* 121 = all ones */
                assert_int_equal(bn_b3_check(&b, 1, cols, &fault), trit == 1);
                if (trit == 1)
                    continue;
                assert_true(fault.padding);
                assert_int_equal(fault.index, k);
                assert_int_equal(fault.value, trit);
            }
}

static void test_fault_position(void **state)
{
    uint8_t t2[3 * 3], b3[3 * 2];
    bn_code_fault fault;
    (void)state;
    memset(t2, BN_T2_ZERO_BYTE, sizeof t2); /* rows of 10: 3 bytes */
    t2[2 * 3 + 1] |= 3 << 4;
    assert_false(bn_t2_check(t2, 3, 10, &fault));
    assert_true(fault.row == 2 && fault.byte == 1 && fault.index == 6 && fault.value == 3);
    memset(b3, 121, sizeof b3);
    b3[1 * 2 + 1] = 250;
    assert_false(bn_b3_check(b3, 3, 10, &fault));
    assert_true(fault.row == 1 && fault.byte == 1 && fault.index == 5 && fault.value == 250);
}

/* Codes in memory that are not of the grid. */
static void test_codes_in_memory(void **state)
{
    static const struct {
        bn_grid grid;
        int8_t bad;
    } wide[] = {{BN_GRID_INT2, -5}, {BN_GRID_INT2, 0},  {BN_GRID_INT2, 5},   {BN_GRID_INT3, -4},
                {BN_GRID_INT3, 4},  {BN_GRID_INT4, -8}, {BN_GRID_INT8, -128}};
    bn_code_fault fault;
    (void)state;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        int8_t codes[2][5];
        memset(codes, 1, sizeof codes);
        assert_true(bn_codes_check(wide[i].grid, codes, 2, 5, &fault));
        codes[1][3] = wide[i].bad;
        assert_false(bn_codes_check(wide[i].grid, codes, 2, 5, &fault));
        assert_true(fault.row == 1 && fault.byte == 3 && fault.index == 3);
        assert_true(fault.value == wide[i].bad && !fault.padding);
    }
    uint8_t t2[2] = {0xaa, 0x56}; /* +1 in all five places, padding */
    assert_true(bn_codes_check(BN_GRID_BINARY, t2, 1, 5, &fault));
    t2[1] = 0x55;
    assert_true(bn_codes_check(BN_GRID_TERNARY, t2, 1, 5, &fault));
    assert_false(bn_codes_check(BN_GRID_BINARY, t2, 1, 5, &fault));
    assert_true(fault.row == 0 && fault.byte == 1 && fault.index == 4 && fault.value == 0);
    t2[1] = 0x57;
    assert_false(bn_codes_check(BN_GRID_BINARY, t2, 1, 5, &fault));
    assert_int_equal(fault.value, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),        cmocka_unit_test(test_bit_fields),
        cmocka_unit_test(test_bit_fields_by_hand), cmocka_unit_test(test_every_t2_byte),
        cmocka_unit_test(test_every_b3_byte),      cmocka_unit_test(test_padding_faults),
        cmocka_unit_test(test_fault_position),     cmocka_unit_test(test_codes_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
