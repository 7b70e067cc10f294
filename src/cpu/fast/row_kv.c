/* Rows of a KV cache in codes (tensor/kv_codes.h): the bits of quant/quantize.h. */
#include "cpu/fast/row_impl.h"
#include "quant/quantize.h"

void FAST(bn_row_kv_encode)(const bn_kv_codes *c, const float *x, uint8_t *row)
{
    const int64_t group = bn_kv_group(c);
    uint8_t *step_to = row, *to = bn_kv_row_codes(c, row);
    for (int64_t h = 0; h < c->heads; h++)
        for (int64_t k = 0; k < c->head_dim; k += group) {
            const int64_t n = c->head_dim - k < group ? c->head_dim - k : group;
            const float a = bn_absmax_floor_f32(FAST(bn_row_absmax)(n, x));
            const float step = a / (float)bn_act_limit(c->bits);
            int8_t four[BN_KV_GROUP];
            FAST(bn_row_act_codes)(n, x, a, c->bits, c->bits == 4 ? four : (int8_t *)to);
            memcpy(step_to, &step, sizeof step);
            if (c->bits == 4)
                bn_kv_pack4(four, n, to);
            step_to += sizeof step;
            to += bn_kv_code_bytes(c, n);
            x += n;
        }
}

void FAST(bn_row_kv_decode)(const bn_kv_codes *c, const uint8_t *row, int64_t head, float *x)
{
    const int64_t group = bn_kv_group(c);
    const uint8_t *from = bn_kv_head_codes(c, row, head);
    for (int64_t k = 0, g = head * bn_kv_groups(c); k < c->head_dim; k += group, g++) {
        const int64_t n = c->head_dim - k < group ? c->head_dim - k : group;
        int8_t four[BN_KV_GROUP];
        if (c->bits == 4)
            bn_kv_unpack4(from, n, four);
        FAST(bn_row_dequantize_codes)
        (n, c->bits == 4 ? four : (const int8_t *)from, bn_kv_step(row, g), x + k);
        from += bn_kv_code_bytes(c, n);
    }
}
