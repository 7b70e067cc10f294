/* quant.cl - quantizers: activations in int8, ternary weights, and both as floats.
 *
 * The codes are those of src/quant/quantize.h, bit for bit (weight scales too
 * where the device has double): the canonical sum of a group has eight partial
 * sums in double, lane l takes the elements k = l mod 8, then
 * ((0+4)+(2+6))+((1+5)+(3+7)).
 *
 * CPU shape: a work-item takes whole rows. GPU shape: a group takes one row of
 * activations; for weight scales, eight neighbouring work-items are the eight
 * lanes of one scale, so that their loads are next to each other: 16 scales to a
 * group of 128. Codes are four to a work-item, one packed byte.
 *
 * Packed codes (BN_T2): byte j of a row holds the elements 4j .. 4j+3 from the
 * low bits up, each as code + 1; rows start on byte boundaries and unused fields
 * of a row's last byte hold 1.
 */

#define FLOOR 1e-5f

/* max(a, 1e-5); NaN stays */
float absmax_floor(float a)
{
    return a < FLOOR ? FLOOR : a;
}

/* clamp(rne(v), lo, hi); 0 for NaN. The bounds are integers, so the clamp may
 * come first; adding 1.5 * 2^23 then rounds to even and leaves the integer in
 * the low bits, in three instructions where rint() is a call. */
#define ROUND_CODE(T, I, S, as_i)                                                                  \
    I round_code##S(T v, float lo, float hi)                                                       \
    {                                                                                              \
        v = v < (T)(lo) ? (T)(lo) : v;                                                             \
        v = v > (T)(hi) ? (T)(hi) : v;                                                             \
        v = v == v ? v : (T)(0.0f);                                                                \
        return as_i(v + (T)(0x1.8p23f)) - as_i((T)(0x1.8p23f));                                    \
    }
ROUND_CODE(float, int, 1, as_int)
#if BN_CPU
ROUND_CODE(float16, int16, 16, as_int16)
#endif
#if BN_CPU
#define bn_cvec    char16
#define as_bits    as_int16
#define TO_CHAR    convert_char16
#define TO_FLOAT   convert_float16
#else
#define bn_cvec    char4
#define as_bits    as_int4
#define TO_CHAR    convert_char4
#define TO_FLOAT   convert_float4
#endif

/* ---- activations ------------------------------------------------------------------ */

/* max|x| of x[0..n-1]: the bits of non-negative floats are ordered as integers,
 * NaN above infinity, so an integer maximum also lets a NaN through. */
#define ROW_ABSMAX(out, x, n)                                                                      \
    do {                                                                                           \
        bn_ivec mv = (bn_ivec)(0);                                                                 \
        int ms = 0;                                                                                \
        BN_ROW_LOOP(k, n, const bn_ivec b = as_bits(BN_LOAD(x, k)) & (bn_ivec)(0x7fffffff); mv = b > mv ? b : mv,            \
                    ms = max(ms, as_int((x)[k]) & 0x7fffffff));                                    \
        out = as_float(ROW_IMAX(mv, ms));                                                          \
    } while (0)
#if BN_CPU
#define ROW_IMAX(v, s) max(max16(v), (s))
int max16(int16 v)
{
    const int8 a = max(v.lo, v.hi);
    const int4 b = max(a.lo, a.hi);
    const int2 c = max(b.lo, b.hi);
    return max(c.x, c.y);
}
#else
#define ROW_IMAX(v, s) as_int(bn_group_max(as_float(s), bn_row_shared))
#endif

/* The code of x: no clamp and no NaN, because |x| <= a and a is finite. Adding
 * 1.5 * 2^23 rounds to even and leaves the integer in the low bits. */
#define CODE(T, as_i, x) (as_i((x)*factor + (T)(0x1.8p23f)) - as_i((T)(0x1.8p23f)))

/* x [R,C] in N groups of `length` elements of a row (its last may be short; per
 * token or tensor, its only one) -> codes i8 [R,C] and step [N] (y absent), or
 * y = codes step. With one_max [1] (per tensor) a is that of the whole tensor,
 * and step is [1]. `limit` is the largest code. */
kernel void bn_act_quant(BN_BUFFER(x), BN_BUFFER(one_max), BN_BUFFER(codes), BN_BUFFER(step),
                         BN_BUFFER(y), const long N, const int C, const int length,
                         const float limit, const long per_item)
{
    BN_POINTER(const float, one_max);
    BN_POINTER(float, step);
    const int fake = y_base != 0, whole = one_max_base != 0;
    BN_ROW_LOCAL
    const int per_row = (C + length - 1) / length;
    BN_ROWS(r, N, per_item)
    {
        const int begin = (int)(r % per_row) * length, n = min(length, C - begin);
        const long at = r / per_row * C + begin;
        global const float *x = (global const float *)(x_base + x_offset) + at;
        global float *y = (global float *)(y_base + y_offset) + at;
        global char *q = (global char *)(codes_base + codes_offset) + at;
        float a;
        if (whole)
            a = one_max[0];
        else
            ROW_ABSMAX(a, x, n);
        a = absmax_floor(a);
        const float factor = limit / a, s = a / limit;
        const int finite = a - a == 0.0f;
        if (fake && finite) {
            BN_ROW_LOOP(i, n, BN_STORE(TO_FLOAT(CODE(bn_vec, as_bits, BN_LOAD(x, i))) * s, y, i),
                        y[i] = (float)CODE(float, as_int, x[i]) * s);
        } else if (fake) { /* a NaN or an infinity: codes 0 */
            BN_ROW_LOOP(i, n, BN_STORE((bn_vec)(0.0f * s), y, i), y[i] = 0.0f * s);
        } else {
            if (finite)
                BN_ROW_LOOP(i, n,
                            bn_vstore(TO_CHAR(CODE(bn_vec, as_bits, BN_LOAD(x, i))), 0, q + i),
                            q[i] = (char)CODE(float, as_int, x[i]));
            else
                BN_ROW_LOOP(i, n, bn_vstore((bn_cvec)(0), 0, q + i), q[i] = 0);
            if (!whole || r == 0)
                step[r] = s;
        }
    }
}

/* part[p] = max|x| of chunk p; a second launch over the parts, P groups of 1
 * chunk, gives the whole. */
kernel void bn_absmax_parts(BN_BUFFER(x), BN_BUFFER(part), const long n, const int chunk)
{
    BN_POINTER(float, part);
    BN_ROW_LOCAL
    const long first = (long)get_group_id(0) * chunk;
    global const float *x = (global const float *)(x_base + x_offset) + first;
    const int length = (int)min((long)chunk, n - first);
    float a;
    ROW_ABSMAX(a, x, length);
    part[get_group_id(0)] = a;
}

/* ---- weight scales ------------------------------------------------------------------ */

/* Tree over eight lanes. */
#define LANES8(ADD, l0, l1, l2, l3, l4, l5, l6, l7)                                                \
    ADD(ADD(ADD(l0, l4), ADD(l2, l6)), ADD(ADD(l1, l5), ADD(l3, l7)))

float scale_of_sum(bn_wide sum, long count)
{
    const float mean = bn_wide_mean(sum, count);
    return mean < FLOOR ? FLOOR : mean;
}

/* w [O,I] in N = O * per_row groups of `length` (the last of a row may be short)
 * -> scale [N], or with sums there: sums [N] (the sums of whole rows). Grid: CPU
 * shape per_item groups per work-item; GPU shape BN_GROUP / 8 per group. */
kernel void bn_weight_scales(BN_BUFFER(w), BN_BUFFER(scale), BN_BUFFER(sums), const long N,
                             const int I, const int length, const int per_row, const long per_item)
{
    BN_POINTER(const float, w);
    BN_POINTER(float, scale);
    BN_POINTER(bn_wide, sums);
#if BN_CPU
    const long first = (long)get_group_id(0) * per_item, end = min(first + per_item, N);
    for (long g = first; g < end; g++) {
        const int at = (int)(g % per_row) * length, n = min(length, I - at);
        global const float *x = w + g / per_row * I + at;
#if BN_FP64
        double8 lane = (double8)(0.0);
        int k = 0;
        for (; k + 8 <= n; k += 8)
            lane += convert_double8(fabs(vload8(0, x + k)));
        if (k < n) { /* absent lanes add 0 */
            double rest[8] = {0, 0, 0, 0, 0, 0, 0, 0};
            for (int l = 0; k + l < n; l++)
                rest[l] = (double)fabs(x[k + l]);
            lane += vload8(0, rest);
        }
        const bn_wide sum = ((lane.s0 + lane.s4) + (lane.s2 + lane.s6)) +
                            ((lane.s1 + lane.s5) + (lane.s3 + lane.s7));
#else
        bn_wide lane[8];
        for (int l = 0; l < 8; l++) {
            lane[l] = bn_wide_of(0.0f);
            for (int k = l; k < n; k += 8)
                lane[l] = bn_wide_add(lane[l], bn_wide_of(fabs(x[k])));
        }
        const bn_wide sum = LANES8(bn_wide_add, lane[0], lane[1], lane[2], lane[3], lane[4],
                                   lane[5], lane[6], lane[7]);
#endif
        if (sums_base != 0)
            sums[g] = sum;
        else
            scale[g] = scale_of_sum(sum, n);
    }
#else
    local bn_wide shared[BN_GROUP];
    const int id = (int)get_local_id(0), l = id & 7;
    const long g = (long)get_group_id(0) * (BN_GROUP / 8) + id / 8;
    const int at = g < N ? (int)(g % per_row) * length : 0;
    const int n = g < N ? min(length, I - at) : 0;
    global const float *x = w + (g < N ? g / per_row * I + at : 0);
    bn_wide sum = bn_wide_of(0.0f);
    for (int k = l; k < n; k += 8)
        sum = bn_wide_add(sum, bn_wide_of(fabs(x[k])));
    shared[id] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (l == 0 && g < N) {
        local const bn_wide *s = shared + id;
        sum = LANES8(bn_wide_add, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]);
        if (sums_base != 0)
            sums[g] = sum;
        else
            scale[g] = scale_of_sum(sum, n);
    }
#endif
}

/* One work-item: scale[0] from the sums of the O rows in ascending order. */
kernel void bn_weight_scale_total(BN_BUFFER(sums), BN_BUFFER(scale), const long O, const long count)
{
    BN_POINTER(const bn_wide, sums);
    BN_POINTER(float, scale);
    if (get_global_id(0) == 0) {
        bn_wide sum = bn_wide_of(0.0f);
        for (long r = 0; r < O; r++)
            sum = bn_wide_add(sum, sums[r]);
        scale[0] = scale_of_sum(sum, count);
    }
}

/* scale [n] = max(learned, 1e-5) */
kernel void bn_scale_floor(BN_BUFFER(learned), BN_BUFFER(scale), const long n)
{
    BN_POINTER(const float, learned);
    BN_POINTER(float, scale);
    const long i = (long)get_global_id(0);
    if (i < n)
        scale[i] = absmax_floor(learned[i]);
}

/* ---- codes -------------------------------------------------------------------------------- */

/* The code of v = w / gamma: of the integers -max .. max, or of the odd ones among them. */
float grid_code(float v, float max, int odd)
{
    const float q = 2.0f * floor(v * 0.5f) + 1.0f;
    if (!odd)
        return (float)round_code1(v, -max, max);
    return v != v ? 1.0f : clamp(q, -max, max);
}

/* Scale of element k of row r: `stride` scales per row (0: one for all). */
#define SCALE_AT(r, k) scale[(r) * stride + (stride > 1 ? (k) / length : 0)]

/* w [O,I], scales -> packed codes -1, 0, 1, or where `odd` -1, 1. Grid: CPU shape per_item
 * rows per work-item; GPU shape one work-item per byte. */
kernel void bn_ternarize(BN_BUFFER(w), BN_BUFFER(scale), BN_BUFFER(packed), const long O,
                         const int I, const int length, const int stride, const int odd,
                         const long per_item)
{
    BN_POINTER(const float, w);
    BN_POINTER(const float, scale);
    BN_POINTER(uchar, packed);
    const int row_bytes = (I + 3) / 4;
#if BN_CPU
    const long first = (long)get_group_id(0) * per_item, end = min(first + per_item, O);
    for (long r = first; r < end; r++) {
        global const float *x = w + r * I;
        global uchar *row = packed + r * row_bytes;
        int k = 0;
        if (!odd && (length % 16 == 0 || stride <= 1)) { /* 16 elements have one scale */
            for (int from = 0; from + 16 <= I; from += length) {
                const float inv = 1.0f / SCALE_AT(r, from);
                const int to = min(from + length, I);
                for (k = from; k + 16 <= to; k += 16) {
                    const int16 q = round_code16(vload16(0, x + k) * inv, -1.0f, 1.0f) + 1;
                    const int4 b = q.s048c | q.s159d << 2 | q.s26ae << 4 | q.s37bf << 6;
                    vstore4(convert_uchar4(b), 0, row + k / 4);
                }
            }
        }
        for (; k < I; k += 4) {
            int byte = 0;
            for (int l = 0; l < 4; l++) {
                const int at = min(k + l, I - 1);
                const int q = (int)grid_code(x[at] * (1.0f / SCALE_AT(r, at)), 1.0f, odd);
                byte |= (k + l < I ? q + 1 : 1) << (2 * l);
            }
            row[k / 4] = (uchar)byte;
        }
    }
#else
    const long j = (long)get_global_id(0);
    if (j < O * row_bytes) {
        const long r = j / row_bytes;
        const int k = (int)(j % row_bytes) * 4;
        global const float *x = w + r * I;
        int byte = 0;
        for (int l = 0; l < 4; l++) {
            const int at = min(k + l, I - 1);
            const int q = (int)grid_code(x[at] * (1.0f / SCALE_AT(r, at)), 1.0f, odd);
            byte |= (k + l < I ? q + 1 : 1) << (2 * l);
        }
        packed[j] = (uchar)byte;
    }
#endif
}

/* y [O,I] = codes scale */
kernel void bn_weight_fake_quant(BN_BUFFER(w), BN_BUFFER(scale), BN_BUFFER(y), const long n,
                                 const int I, const int length, const int stride, const int odd)
{
    BN_POINTER(const float, w);
    BN_POINTER(const float, scale);
    BN_POINTER(float, y);
    const long first = (long)get_group_id(0) * BN_FLAT, end = min(first + BN_FLAT, n);
    for (long i = first + (BN_CPU ? 0 : get_local_id(0)); i < end;
         i += BN_CPU ? 1 : get_local_size(0)) {
        const float s = SCALE_AT(i / I, (int)(i % I));
        y[i] = grid_code(w[i] * (1.0f / s), 1.0f, odd) * s;
    }
}

/* y [n] = y + softness (x - y) */
kernel void bn_soften(BN_BUFFER(x), BN_BUFFER(y), const long n, const float softness)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, y);
    const long first = (long)get_group_id(0) * BN_FLAT, end = min(first + BN_FLAT, n);
    for (long i = first + (BN_CPU ? 0 : get_local_id(0)); i < end;
         i += BN_CPU ? 1 : get_local_size(0))
        y[i] += softness * (x[i] - y[i]);
}

/* ---- gradient estimators -------------------------------------------------------------------- */

/* The formulas are those of src/quant/estimator.h. w, g [O,I] in N groups of `length` elements
 * of a row, each with a scale, or all with one -> dw, and of each group the slope of its scale:
 * dscale [N], times `factor` (`last_factor` for the short group of a row), or where the scale is
 * one, slope [N] for bn_estimate_total. dw, dscale or slope may be absent. add: bit 1 dw, bit 2
 * dscale. */
kernel void bn_estimate(BN_BUFFER(w), BN_BUFFER(g), BN_BUFFER(scale), BN_BUFFER(dw),
                        BN_BUFFER(slope), BN_BUFFER(dscale), const long N, const int I,
                        const int length, const int one_scale, const int max, const int odd,
                        const float weight_limit, const float scale_limit, const float delta,
                        const float factor, const float last_factor, const int add,
                        const long per_item)
{
    BN_POINTER(const float, scale);
    BN_POINTER(bn_wide, slope);
    BN_POINTER(float, dscale);
    BN_WIDE_LOCAL
    const int per_row = (I + length - 1) / length, first = BN_CPU ? 0 : (int)get_local_id(0);
    BN_ROWS(r, N, per_item)
    {
        const int begin = (int)(r % per_row) * length, n = min(length, I - begin);
        const long at = r / per_row * I + begin;
        global const float *x = (global const float *)(w_base + w_offset) + at;
        global const float *dy = (global const float *)(g_base + g_offset) + at;
        global float *d = (global float *)(dw_base + dw_offset) + at;
        const float inv = 1.0f / absmax_floor(scale[one_scale ? 0 : r]);
        bn_wide sum = bn_wide_of(0.0f);
        for (int k = first; k < n; k += BN_CPU ? 1 : BN_GROUP) {
            const float v = x[k] * inv, q = grid_code(v, (float)max, odd), size = fabs(v);
            const float side = dy[k] > 0.0f ? 1.0f : dy[k] < 0.0f ? -1.0f : 0.0f;
            const float to_w =
                size > weight_limit ? 0.0f : dy[k] * (1.0f + delta * side * (v - q));
            if (dw_base != 0)
                d[k] = add & 2 ? d[k] + to_w : to_w;
            sum = bn_wide_add(sum, bn_wide_of(dy[k] * (size > scale_limit ? q : q - v)));
        }
        sum = BN_WIDE_SUM(sum);
        if (BN_CPU || first == 0) {
            const float value = bn_wide_float(sum) * (n < length ? last_factor : factor);
            if (slope_base != 0)
                slope[r] = sum;
            else if (dscale_base != 0)
                dscale[r] = add & 4 ? dscale[r] + value : value;
        }
    }
}

/* One work-item: the one scale's slope from those of the O rows. */
kernel void bn_estimate_total(BN_BUFFER(slope), BN_BUFFER(dscale), const long O,
                              const float factor, const int add)
{
    BN_POINTER(const bn_wide, slope);
    BN_POINTER(float, dscale);
    if (get_global_id(0) == 0) {
        bn_wide sum = bn_wide_of(0.0f);
        for (long r = 0; r < O; r++)
            sum = bn_wide_add(sum, slope[r]);
        const float value = bn_wide_float(sum) * factor;
        dscale[0] = add ? dscale[0] + value : value;
    }
}
