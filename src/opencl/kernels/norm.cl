/* norm.cl - kernels on rows: RMSNorm, RoPE, Hadamard, softmax, cross-entropy, column sums.
 *
 * Bound by memory. CPU shape: a work-item takes per_item whole rows (about 16 K
 * elements) and goes through each with float16. GPU shape: a group of BN_GROUP
 * takes one row; sums are trees in local memory. Either order is fixed: BN_GROUP is
 * 128 on every GPU, because it is the shape of the tree and so of the result (four
 * warps suit rows of 128 to 8192 elements); it is no choice of the tuner.
 *
 * Shapes: x, y, dx, dy [R,C]; rstd, lse [R].
 */

/* y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps) */
kernel void bn_rmsnorm(BN_BUFFER(x), BN_BUFFER(weight), BN_BUFFER(y), BN_BUFFER(rstd), const long R,
                       const int C, const float eps, const long per_item)
{
    BN_POINTER(const float, weight);
    BN_POINTER(float, rstd);
    BN_ROW_LOCAL
    BN_ROWS(r, R, per_item)
    {
        global const float *x = (global const float *)(x_base + x_offset) + r * C;
        global float *y = (global float *)(y_base + y_offset) + r * C;
        bn_vec squares = (bn_vec)(0.0f);
        float square = 0.0f;
        BN_ROW_LOOP(i, C, const bn_vec v = BN_LOAD(x, i); squares += v * v, square += x[i] * x[i]);
        const float sum = BN_ROW_SUM(squares, square);
#if BN_FP64
        const float s = (float)(1.0 / sqrt((double)sum / C + (double)eps));
#else
        const float s = 1.0f / sqrt(sum / C + eps);
#endif
        BN_ROW_LOOP(i, C, BN_STORE(BN_LOAD(x, i) * s * BN_LOAD(weight, i), y, i),
                    y[i] = x[i] * s * weight[i]);
        rstd[r] = s;
    }
}

/* dx = rstd (dy weight) - x rstd^3 mean(dy weight x); the difference may cancel,
 * so all of it is made in double or in pairs of floats. */
#if BN_FP64
#if BN_CPU
#define bn_dvec    double16
#define TO_D       convert_double16
#define TO_F       convert_float16
#else
#define bn_dvec    double4
#define TO_D       convert_double4
#define TO_F       convert_float4
#endif
#endif

kernel void bn_rmsnorm_backward(BN_BUFFER(x), BN_BUFFER(weight), BN_BUFFER(rstd), BN_BUFFER(dy),
                                BN_BUFFER(dx), const long R, const int C, const int add,
                                const long per_item)
{
    BN_POINTER(const float, weight);
    BN_POINTER(const float, rstd);
    BN_WIDE_LOCAL
    BN_ROWS(r, R, per_item)
    {
        global const float *x = (global const float *)(x_base + x_offset) + r * C;
        global const float *dy = (global const float *)(dy_base + dy_offset) + r * C;
        global float *dx = (global float *)(dx_base + dx_offset) + r * C;
#if BN_FP64
        const double s = (double)rstd[r];
#if BN_CPU
        double8 lanes = (double8)(0.0);
        int k = 0;
        for (; k + 8 <= C; k += 8)
            lanes += convert_double8(vload8(0, dy + k)) * convert_double8(vload8(0, weight + k)) *
                     convert_double8(vload8(0, x + k));
        const double4 half_sum = lanes.lo + lanes.hi;
        const double2 quarter = half_sum.lo + half_sum.hi;
        double sum = quarter.x + quarter.y;
        for (; k < C; k++)
            sum += (double)dy[k] * (double)weight[k] * (double)x[k];
#else
        double sum = 0.0;
        for (int k = (int)get_local_id(0); k < C; k += BN_GROUP)
            sum += (double)dy[k] * (double)weight[k] * (double)x[k];
        sum = BN_WIDE_SUM(sum);
#endif
        const double back = s * s * s * (sum / C);
        BN_ROW_LOOP(i, C,
                    const bn_vec d = TO_F(s * (TO_D(BN_LOAD(weight, i)) * TO_D(BN_LOAD(dy, i))) -
                                          TO_D(BN_LOAD(x, i)) * back);
                    BN_STORE(add ? BN_LOAD(dx, i) + d : d, dx, i),
                    const float d = (float)(s * ((double)weight[i] * (double)dy[i]) -
                                            (double)x[i] * back);
                    dx[i] = add ? dx[i] + d : d);
#else
        const float s = rstd[r];
        const int first = BN_CPU ? 0 : (int)get_local_id(0), step = BN_CPU ? 1 : BN_GROUP;
        bn_wide sum = bn_wide_of(0.0f);
        for (int k = first; k < C; k += step)
            sum = bn_wide_add(sum, bn_wide_times(bn_wide_product(dy[k], weight[k]), x[k]));
        bn_wide back = bn_wide_over(BN_WIDE_SUM(sum), (float)C);
        for (int power = 0; power < 3; power++)
            back = bn_wide_times(back, s);
        for (int k = first; k < C; k += step) {
            const bn_wide front = bn_wide_times(bn_wide_product(weight[k], dy[k]), s);
            const float d = bn_wide_float(bn_wide_add(front, bn_wide_times(back, -x[k])));
            dx[k] = add ? dx[k] + d : d;
        }
#endif
    }
}

/* ---- column sums, in two steps --------------------------------------------------
 *
 * part [P,C]: part[p] = sum over the chunk's rows of dy (of dy x rstd where rstd
 * is there); then d = sum over p of part[p], or +=. Grid: x = blocks of
 * BN_GROUP columns (GPU shape; 1 in the CPU shape), y = P.
 */
kernel void bn_column_parts(BN_BUFFER(dy), BN_BUFFER(x), BN_BUFFER(rstd), BN_BUFFER(part),
                            const long R, const int C, const long chunk)
{
    BN_POINTER(const float, dy);
    BN_POINTER(const float, x);
    BN_POINTER(const float, rstd);
    BN_POINTER(float, part);
    const long first = (long)get_group_id(1) * chunk, end = min(first + chunk, R);
    const int scaled = rstd_base != 0;
    global float *out = part + (long)get_group_id(1) * C;
#if BN_CPU
    int i = 0;
    for (; i + 64 <= C; i += 64) { /* four vectors of sums stay in registers */
        float16 a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
        for (long r = first; r < end; r++) {
            global const float *row = dy + r * C + i;
            float16 va = vload16(0, row), vb = vload16(1, row);
            float16 vc = vload16(2, row), vd = vload16(3, row);
            if (scaled) {
                global const float *xr = x + r * C + i;
                va *= vload16(0, xr) * rstd[r];
                vb *= vload16(1, xr) * rstd[r];
                vc *= vload16(2, xr) * rstd[r];
                vd *= vload16(3, xr) * rstd[r];
            }
            a += va;
            b += vb;
            c += vc;
            d += vd;
        }
        vstore16(a, 0, out + i);
        vstore16(b, 1, out + i);
        vstore16(c, 2, out + i);
        vstore16(d, 3, out + i);
    }
    for (; i < C; i++) {
        float sum = 0.0f;
        for (long r = first; r < end; r++)
            sum += scaled ? dy[r * C + i] * (x[r * C + i] * rstd[r]) : dy[r * C + i];
        out[i] = sum;
    }
#else
    const int i = (int)get_global_id(0);
    if (i < C) {
        float sum = 0.0f;
        for (long r = first; r < end; r++)
            sum += scaled ? dy[r * C + i] * (x[r * C + i] * rstd[r]) : dy[r * C + i];
        out[i] = sum;
    }
#endif
}

/* Grid: x = blocks of BN_GROUP columns in both shapes. */
kernel void bn_column_total(BN_BUFFER(part), BN_BUFFER(d), const long P, const int C, const int add)
{
    BN_POINTER(const float, part);
    BN_POINTER(float, d);
#if BN_CPU
    const int first = (int)get_group_id(0) * BN_GROUP, end = min(first + BN_GROUP, C);
    for (int i = first; i < end; i++) {
#else
    const int i = (int)get_global_id(0);
    if (i < C) {
#endif
        float sum = 0.0f;
        for (long p = 0; p < P; p++)
            sum += part[p * C + i];
        d[i] = add ? d[i] + sum : sum;
    }
}

/* ---- RoPE --------------------------------------------------------------------------
 *
 * x [B,T,H*hd] as rows of W = H*hd; table [P,hd]: hd/2 cosines, hd/2 sines; row r
 * is at position first + r % T. sign -1: the inverse rotation (gradient).
 */
kernel void bn_rope(BN_BUFFER(x), BN_BUFFER(table), BN_BUFFER(y), const long R, const int T,
                    const int W, const int hd, const long first, const float sign, const int add,
                    const long per_item)
{
    BN_POINTER(const float, table);
    const int half_dim = hd / 2;
    BN_ROWS(r, R, per_item)
    {
        global const float *c = table + (first + r % T) * hd, *s = c + half_dim;
        global const float *xr = (global const float *)(x_base + x_offset) + r * W;
        global float *yr = (global float *)(y_base + y_offset) + r * W;
#if BN_CPU
        for (int h = 0; h < W; h += hd) {
            global const float *lo = xr + h, *hi = lo + half_dim;
            global float *y_lo = yr + h, *y_hi = y_lo + half_dim;
            int j = 0;
#define ROTATE(T, V)                                                                               \
    for (; j + V <= half_dim; j += V) {                                                            \
        const T a = vload##V(0, lo + j), b = vload##V(0, hi + j);                                  \
        const T cs = vload##V(0, c + j), sn = sign * vload##V(0, s + j);                           \
        const T u = a * cs - b * sn, v = b * cs + a * sn;                                          \
        vstore##V(add ? vload##V(0, y_lo + j) + u : u, 0, y_lo + j);                               \
        vstore##V(add ? vload##V(0, y_hi + j) + v : v, 0, y_hi + j);                               \
    }
            ROTATE(float16, 16)
            ROTATE(float4, 4)
            for (; j < half_dim; j++) {
#else
        for (int i = (int)get_local_id(0); i < W / 2; i += BN_GROUP) {
            const int h = i / half_dim * hd, j = i % half_dim;
            global const float *lo = xr + h, *hi = lo + half_dim;
            global float *y_lo = yr + h, *y_hi = y_lo + half_dim;
            {
#endif
                const float a = lo[j], b = hi[j], sn = sign * s[j];
                const float u = a * c[j] - b * sn, v = b * c[j] + a * sn;
                y_lo[j] = add ? y_lo[j] + u : u;
                y_hi[j] = add ? y_hi[j] + v : v;
            }
        }
    }
}

/* ---- softmax -------------------------------------------------------------------------- */

/* N blocks of B elements (a power of two, at most 4096): for h = 1, 2 .. B/2 every
 * pair (i, i+h) becomes (a+b, a-b); then times factor = 1/sqrt(B). The order is
 * that of the reference, so are the bits. */
kernel void bn_hadamard(BN_BUFFER(x), BN_BUFFER(y), const long N, const int B, const float factor,
                        const int add, const long per_item)
{
    local float v[4096];
    const int first = BN_CPU ? 0 : (int)get_local_id(0), step = BN_CPU ? 1 : BN_GROUP;
    BN_ROWS(r, N, per_item)
    {
        global const float *x = (global const float *)(x_base + x_offset) + r * B;
        global float *y = (global float *)(y_base + y_offset) + r * B;
        for (int i = first; i < B; i += step)
            v[i] = x[i];
        for (int h = 1; h < B; h *= 2) {
            barrier(CLK_LOCAL_MEM_FENCE);
            for (int p = first; p < B / 2; p += step) {
                const int i = p + (p & -h);
                const float a = v[i], b = v[i + h];
                v[i] = a + b;
                v[i + h] = a - b;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = first; i < B; i += step)
            y[i] = add ? y[i] + v[i] * factor : v[i] * factor;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

/* y = exp(x - max) / sum */
kernel void bn_softmax(BN_BUFFER(x), BN_BUFFER(y), const long R, const int C, const long per_item)
{
    BN_ROW_LOCAL
    BN_ROWS(r, R, per_item)
    {
        global const float *x = (global const float *)(x_base + x_offset) + r * C;
        global float *y = (global float *)(y_base + y_offset) + r * C;
        float largest, sum;
        BN_ROW_LARGEST(largest, x, C);
        BN_ROW_EXP_SUM(sum, x, C, largest);
        const float inverse = 1.0f / sum;
        BN_ROW_LOOP(i, C, BN_STORE(bn_expv(BN_LOAD(x, i) - largest) * inverse, y, i),
                    y[i] = bn_exp(x[i] - largest) * inverse);
    }
}

/* dx = y (dy - sum(dy y)) */
kernel void bn_softmax_backward(BN_BUFFER(y), BN_BUFFER(dy), BN_BUFFER(dx), const long R,
                                const int C, const int add, const long per_item)
{
    BN_ROW_LOCAL
    BN_ROWS(r, R, per_item)
    {
        global const float *y = (global const float *)(y_base + y_offset) + r * C;
        global const float *dy = (global const float *)(dy_base + dy_offset) + r * C;
        global float *dx = (global float *)(dx_base + dx_offset) + r * C;
        bn_vec products = (bn_vec)(0.0f);
        float product = 0.0f;
        BN_ROW_LOOP(i, C, products += BN_LOAD(y, i) * BN_LOAD(dy, i), product += y[i] * dy[i]);
        const float dot_ = BN_ROW_SUM(products, product);
        BN_ROW_LOOP(i, C, const bn_vec d = BN_LOAD(y, i) * (BN_LOAD(dy, i) - dot_);
                    BN_STORE(add ? BN_LOAD(dx, i) + d : d, dx, i),
                    const float d = y[i] * (dy[i] - dot_);
                    dx[i] = add ? dx[i] + d : d);
    }
}

/* ---- cross-entropy --------------------------------------------------------------------- */

/* logits [R,V], labels [R] -> lse [R], nll [R] = lse - logit[label], 0 for an
 * ignored row and for a label outside 0..V-1, which is reported under `op`. */
kernel void bn_cross_entropy(BN_BUFFER(logits), BN_BUFFER(labels), BN_BUFFER(lse), BN_BUFFER(nll),
                             BN_BUFFER(flag), const long R, const int V, const int ignore_index,
                             const int op, const long row0, const long per_item)
{
    BN_POINTER(const int, labels);
    BN_POINTER(float, lse);
    BN_POINTER(float, nll);
    BN_POINTER(volatile int, flag);
    BN_ROW_LOCAL
    BN_ROWS(r, R, per_item)
    {
        global const float *x = (global const float *)(logits_base + logits_offset) + r * V;
        const int label = labels[r];
        float largest, sum;
        BN_ROW_LARGEST(largest, x, V);
        BN_ROW_EXP_SUM(sum, x, V, largest);
        if (BN_CPU || get_local_id(0) == 0) {
            const float log_sum = bn_log(sum);
            float loss = 0.0f;
            if (label >= 0 && label < V && label != ignore_index)
                loss = log_sum + (largest - x[label]);
            else if (label != ignore_index)
                BN_RAISE(flag, op, label, row0 + r);
            lse[r] = largest + log_sum;
            nll[r] = loss;
        }
    }
}

/* One work-item or group: loss = sum(nll) / count, count = labels that are not
 * ignored; 0 without one. */
kernel void bn_cross_entropy_mean(BN_BUFFER(nll), BN_BUFFER(labels), BN_BUFFER(loss), const long R,
                                  const int ignore_index)
{
    BN_POINTER(const float, nll);
    BN_POINTER(const int, labels);
    BN_POINTER(float, loss);
    BN_WIDE_LOCAL
    bn_wide sum = bn_wide_of(0.0f), count = bn_wide_of(0.0f);
    for (long r = BN_CPU ? 0 : (long)get_local_id(0); r < R; r += BN_CPU ? 1 : BN_GROUP) {
        sum = bn_wide_add(sum, bn_wide_of(nll[r]));
        count = bn_wide_add(count, bn_wide_of(labels[r] != ignore_index ? 1.0f : 0.0f));
    }
    const bn_wide all = BN_WIDE_SUM(sum);
    const long n = (long)bn_wide_float(BN_WIDE_SUM(count));
    if (BN_CPU || get_local_id(0) == 0)
        loss[0] = n > 0 ? bn_wide_mean(all, n) : 0.0f;
}

/* One work-item or group: factor[0] = dloss[0] / count, 0 without a label. */
kernel void bn_cross_entropy_factor(BN_BUFFER(labels), BN_BUFFER(dloss), BN_BUFFER(factor),
                                    const long R, const int ignore_index)
{
    BN_POINTER(const int, labels);
    BN_POINTER(const float, dloss);
    BN_POINTER(float, factor);
    BN_WIDE_LOCAL
    bn_wide count = bn_wide_of(0.0f);
    for (long r = BN_CPU ? 0 : (long)get_local_id(0); r < R; r += BN_CPU ? 1 : BN_GROUP)
        count = bn_wide_add(count, bn_wide_of(labels[r] != ignore_index ? 1.0f : 0.0f));
    const float n = bn_wide_float(BN_WIDE_SUM(count));
    if (BN_CPU || get_local_id(0) == 0)
        factor[0] = n > 0.0f ? dloss[0] / n : 0.0f;
}

/* d[r,i] = (exp(logits[r,i] - lse[r]) - [i = label]) factor, 0 for an ignored
 * row; or +=. d may be the memory of logits. */
kernel void bn_cross_entropy_backward(BN_BUFFER(logits), BN_BUFFER(labels), BN_BUFFER(lse),
                                      BN_BUFFER(factor), BN_BUFFER(d), const long R, const int V,
                                      const int ignore_index, const int add, const long per_item)
{
    BN_POINTER(const int, labels);
    BN_POINTER(const float, lse);
    const float f = ((global const float *)(factor_base + factor_offset))[0];
    BN_ROWS(r, R, per_item)
    {
        global const float *x = (global const float *)(logits_base + logits_offset) + r * V;
        global float *d = (global float *)(d_base + d_offset) + r * V;
        const int label = labels[r];
        const float shift = lse[r], g = label == ignore_index ? 0.0f : f;
        if (g == 0.0f) { /* 0 whatever the logits are */
            if (!add)
                BN_ROW_LOOP(i, V, BN_STORE((bn_vec)(0.0f), d, i), d[i] = 0.0f);
            continue;
        }
#if BN_CPU
        BN_ROW_LOOP(i, V, const bn_vec p = bn_expv(BN_LOAD(x, i) - shift) * g;
                    BN_STORE(add ? BN_LOAD(d, i) + p : p, d, i),
                    const float p = bn_exp(x[i] - shift) * g;
                    d[i] = add ? d[i] + p : p);
        if (label >= 0 && label < V)
            d[label] -= g;
#else
        for (int i = (int)get_local_id(0); i < V; i += BN_GROUP) {
            const float p = (bn_exp(x[i] - shift) - (i == label ? 1.0f : 0.0f)) * g;
            d[i] = add ? d[i] + p : p;
        }
#endif
    }
}
