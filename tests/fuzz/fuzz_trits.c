/* Both encodings of ternary codes: rows of `cols` codes, where the first byte
 * says how many. What the check accepts survives every way through the
 * packers; what it refuses is refused for a reason that is there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "quant/pack.h"

static void *fresh(int64_t bytes)
{
    void *p = malloc((size_t)bytes + 1);
    if (!p)
        fuzz_broken("no memory");
    return p;
}

static void check_fault(const bn_code_fault *f, const uint8_t *data, int64_t rows, int64_t cols,
                        int64_t row_bytes, int per_byte)
{
    if (f->row < 0 || f->row >= rows || f->byte < 0 || f->byte >= row_bytes ||
        f->index / per_byte != f->byte || f->padding != (f->index >= cols))
        fuzz_broken("a fault outside the rows");
    const uint8_t byte = data[f->row * row_bytes + f->byte];
    if (per_byte == BN_T2_PER_BYTE && f->value != ((byte >> 2 * (f->index % 4)) & 3))
        fuzz_broken("a fault that is not there");
    if (per_byte == BN_B3_PER_BYTE && !f->padding && f->value != byte)
        fuzz_broken("a fault that is not there");
}

static void ternary2(const uint8_t *t2, int64_t rows, int64_t cols)
{
    bn_code_fault fault;
    const int64_t row_bytes = bn_t2_row_bytes(cols), b3_bytes = rows * bn_b3_row_bytes(cols);
    if (!bn_t2_check(t2, rows, cols, &fault)) {
        check_fault(&fault, t2, rows, cols, row_bytes, BN_T2_PER_BYTE);
        return;
    }
    int8_t *codes = fresh(rows * cols);
    uint8_t *again = fresh(rows * row_bytes), *b3 = fresh(b3_bytes);
    bn_t2_unpack(t2, 0, rows, cols, codes);
    for (int64_t i = 0; i < rows * cols; i++)
        if (codes[i] < -1 || codes[i] > 1 ||
            codes[i] != bn_t2_get(t2 + i / cols * row_bytes, i % cols))
            fuzz_broken("a code that is none");
    bn_t2_pack(codes, rows, cols, again);
    if (memcmp(again, t2, (size_t)(rows * row_bytes)) != 0)
        fuzz_broken("ternary2: packed again, other bytes");
    bn_b3_from_t2(t2, rows, cols, b3);
    bn_b3_to_t2(b3, rows, cols, again);
    if (!bn_b3_check(b3, rows, cols, &fault) || memcmp(again, t2, (size_t)(rows * row_bytes)) != 0)
        fuzz_broken("ternary2: by way of base3x5, other bytes");
    free(codes);
    free(again);
    free(b3);
}

static void base3x5(const uint8_t *b3, int64_t rows, int64_t cols)
{
    bn_code_fault fault;
    const int64_t row_bytes = bn_b3_row_bytes(cols);
    if (!bn_b3_check(b3, rows, cols, &fault)) {
        check_fault(&fault, b3, rows, cols, row_bytes, BN_B3_PER_BYTE);
        return;
    }
    uint8_t *t2 = fresh(rows * bn_t2_row_bytes(cols)), *again = fresh(rows * row_bytes);
    bn_b3_to_t2(b3, rows, cols, t2);
    bn_b3_from_t2(t2, rows, cols, again);
    if (!bn_t2_check(t2, rows, cols, &fault) || memcmp(again, b3, (size_t)(rows * row_bytes)) != 0)
        fuzz_broken("base3x5: by way of ternary2, other bytes");
    free(t2);
    free(again);
}

/* The rows that the bytes hold, in memory of exactly that size. */
static void run(const uint8_t *data, size_t size, int64_t cols, int64_t row_bytes,
                void (*decode)(const uint8_t *, int64_t, int64_t))
{
    const int64_t rows = (int64_t)size / row_bytes;
    if (rows == 0)
        return;
    uint8_t *exact = malloc((size_t)(rows * row_bytes));
    if (!exact)
        fuzz_broken("no memory");
    memcpy(exact, data, (size_t)(rows * row_bytes));
    decode(exact, rows, cols);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const int64_t cols = 1 + data[0] % 40;
    run(data + 1, size - 1, cols, bn_t2_row_bytes(cols), ternary2);
    run(data + 1, size - 1, cols, bn_b3_row_bytes(cols), base3x5);
    return 0;
}

void fuzz_seeds(void)
{
    const int cols[] = {1, 3, 4, 5, 7, 20, 40};
    for (size_t c = 0; c < sizeof cols / sizeof *cols; c++) {
        enum { ROWS = 3 };
        int8_t codes[ROWS * 40];
        uint8_t t2[1 + ROWS * 10] = {(uint8_t)(cols[c] - 1)}, b3[1 + ROWS * 8] = {t2[0]};
        char name[32];
        for (int i = 0; i < ROWS * cols[c]; i++)
            codes[i] = (int8_t)(i % 7 % 3 - 1);
        bn_t2_pack(codes, ROWS, cols[c], t2 + 1);
        bn_b3_from_t2(t2 + 1, ROWS, cols[c], b3 + 1);
        snprintf(name, sizeof name, "t2_%d", cols[c]);
        fuzz_seed(name, t2, (size_t)(1 + ROWS * bn_t2_row_bytes(cols[c])));
        snprintf(name, sizeof name, "b3_%d", cols[c]);
        fuzz_seed(name, b3, (size_t)(1 + ROWS * bn_b3_row_bytes(cols[c])));
    }
}
