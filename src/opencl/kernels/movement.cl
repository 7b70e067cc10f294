/* movement.cl - embedding, sum and mean, transpose, slice.
 *
 * Bound by memory. The embedding's gradient needs no atomics: the vocabulary is
 * cut into blocks, and whoever has a block goes through all ids in ascending
 * order and adds the rows of those that fall into it. Reading the ids again and
 * again costs less than the rows do, and the order of every sum is that of the
 * reference. In the GPU shape a group has BN_GROUP columns, so that a row is read in
 * one piece, and takes ids BN_GROUP at a time through local memory. Transpose and
 * slice are flat kernels over the result (constants: elementwise.cl).
 */

/* ids [R], weight [V,D] -> y [R,D] = weight[ids]; an id outside 0..V-1 is reported
 * and gives a row of zeros. */
kernel void bn_embedding(BN_BUFFER(ids), BN_BUFFER(weight), BN_BUFFER(y), BN_BUFFER(flag),
                         const long R, const int V, const int D, const int op, const long per_item)
{
    BN_POINTER(const int, ids);
    BN_POINTER(const float, weight);
    BN_POINTER(volatile int, flag);
    BN_ROWS(r, R, per_item)
    {
        const int id = ids[r];
        const int ok = id >= 0 && id < V;
        global const float *from = weight + (long)(ok ? id : 0) * D;
        global float *to = (global float *)(y_base + y_offset) + r * D;
        if (!ok)
            BN_RAISE(flag, op, id, r);
        if (ok)
            BN_ROW_LOOP(i, D, BN_STORE(BN_LOAD(from, i), to, i), to[i] = from[i]);
        else
            BN_ROW_LOOP(i, D, BN_STORE((bn_vec)(0.0f), to, i), to[i] = 0.0f);
    }
}

/* dy [R,D] -> d [V,D], or +=. Grid: x = blocks of `block` ids; y = blocks of
 * BN_GROUP columns (GPU shape; 1 in the CPU shape). */
kernel void bn_embedding_backward(BN_BUFFER(ids), BN_BUFFER(dy), BN_BUFFER(d), const long R,
                                  const int V, const int D, const int block, const int add)
{
    BN_POINTER(const int, ids);
    BN_POINTER(const float, dy);
    BN_POINTER(float, d);
    const int lo = (int)get_group_id(0) * block, hi = min(lo + block, V);
#if BN_CPU
    if (!add) {
        global float *all = d + (long)lo * D;
        const long n = (long)(hi - lo) * D;
        long i = 0;
        for (; i + 16 <= n; i += 16)
            vstore16((float16)(0.0f), 0, all + i);
        for (; i < n; i++)
            all[i] = 0.0f;
    }
    for (long r0 = 0; r0 < R; r0 += 16) {
        const long stop = min(r0 + 16, R);
        if (stop == r0 + 16) { /* most runs of 16 ids hold none of the block */
            const int16 id = vload16(0, ids + r0);
            if (!any(id >= lo && id < hi))
                continue;
        }
        for (long r = r0; r < stop; r++) {
            const int id = ids[r];
            if (id < lo || id >= hi)
                continue;
            global const float *from = dy + r * D;
            global float *to = d + (long)id * D;
            BN_ROW_LOOP(i, D, BN_STORE(BN_LOAD(to, i) + BN_LOAD(from, i), to, i), to[i] += from[i]);
        }
    }
#else
    local int shared[BN_GROUP];
    const int i = (int)get_global_id(1), id0 = (int)get_local_id(1);
    if (!add && i < D)
        for (int v = lo; v < hi; v++)
            d[(long)v * D + i] = 0.0f;
    for (long r0 = 0; r0 < R; r0 += BN_GROUP) {
        barrier(CLK_LOCAL_MEM_FENCE);
        shared[id0] = r0 + id0 < R ? ids[r0 + id0] : -1;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < BN_GROUP; k++) {
            const int v = shared[k];
            if (v >= lo && v < hi && i < D)
                d[(long)v * D + i] += dy[(r0 + k) * D + i];
        }
    }
#endif
}

/* ---- sums -------------------------------------------------------------------------- */

/* part[p] = sum over chunk p of x (squares: of x^2), in wide numbers. */
kernel void bn_sum_parts(BN_BUFFER(x), BN_BUFFER(part), const long n, const long chunk,
                         const int squares)
{
    BN_POINTER(const float, x);
    BN_POINTER(bn_wide, part);
    BN_WIDE_LOCAL
    const long first = (long)get_group_id(0) * chunk, end = min(first + chunk, n);
#if BN_CPU && BN_FP64
    double8 a = (double8)(0.0), b = (double8)(0.0);
    long i = first;
    if (squares)
        for (; i + 16 <= end; i += 16) {
            const double8 u = convert_double8(vload8(0, x + i));
            const double8 v = convert_double8(vload8(1, x + i));
            a += u * u;
            b += v * v;
        }
    else
        for (; i + 16 <= end; i += 16) {
            a += convert_double8(vload8(0, x + i));
            b += convert_double8(vload8(1, x + i));
        }
    a += b;
    bn_wide sum = ((a.s0 + a.s4) + (a.s2 + a.s6)) + ((a.s1 + a.s5) + (a.s3 + a.s7));
    for (; i < end; i++)
        sum += squares ? (double)x[i] * (double)x[i] : (double)x[i];
    part[get_group_id(0)] = sum;
#else
    bn_wide sum = bn_wide_of(0.0f);
    for (long i = first + (BN_CPU ? 0 : get_local_id(0)); i < end; i += BN_CPU ? 1 : BN_GROUP)
        sum = bn_wide_add(sum, squares ? bn_wide_product(x[i], x[i]) : bn_wide_of(x[i]));
    sum = BN_WIDE_SUM(sum);
    if (BN_CPU || get_local_id(0) == 0)
        part[get_group_id(0)] = sum;
#endif
}

/* One work-item or group: y[0] = sum of part[0..P-1]; root: its square root;
 * count > 0: divided by count. */
kernel void bn_sum_total(BN_BUFFER(part), BN_BUFFER(y), const long P, const int root,
                         const long count)
{
    BN_POINTER(const bn_wide, part);
    BN_POINTER(float, y);
    BN_WIDE_LOCAL
    bn_wide sum = bn_wide_of(0.0f);
    for (long p = BN_CPU ? 0 : (long)get_local_id(0); p < P; p += BN_CPU ? 1 : BN_GROUP)
        sum = bn_wide_add(sum, part[p]);
    sum = BN_WIDE_SUM(sum);
    if (BN_CPU || get_local_id(0) == 0)
        y[0] = root ? bn_wide_sqrt(sum) : count > 0 ? bn_wide_mean(sum, count) : bn_wide_float(sum);
}

/* d[i] = dy[0] / count, or += */
kernel void bn_spread(BN_BUFFER(dy), BN_BUFFER(d), const long n, const float count, const int add)
{
    BN_POINTER(float, d);
    const float g = ((global const float *)(dy_base + dy_offset))[0] / count;
    BN_FLAT_LOOP(i, n, BN_STORE(add ? BN_LOAD(d, i) + g : (bn_vec)(g), d, i),
                 d[i] = add ? d[i] + g : g);
}

/* ---- transpose and slice --------------------------------------------------------------- */

/* x [n0,a,n1,b,n2] -> y [n0,b,n1,a,n2], or +=, over the elements of y. */
kernel void bn_exchange(BN_BUFFER(x), BN_BUFFER(y), const long n, const long a, const long n1,
                        const long b, const long n2, const int add)
{
    BN_POINTER(const float, x);
    BN_POINTER(float, y);
    const long first = (long)get_group_id(0) * BN_FLAT, end = min(first + BN_FLAT, n);
    for (long i = first + (BN_CPU ? 0 : get_local_id(0)); i < end;
         i += BN_CPU ? 1 : get_local_size(0)) {
        long rest = i;
        const long i2 = rest % n2;
        rest /= n2;
        const long ia = rest % a;
        rest /= a;
        const long i1 = rest % n1;
        rest /= n1;
        const long ib = rest % b, i0 = rest / b;
        const float v = x[(((i0 * a + ia) * n1 + i1) * b + ib) * n2 + i2];
        y[i] = add ? y[i] + v : v;
    }
}

/* Slice of a dimension: y [outer,length,inner] = x [outer,all,inner][:,start:,:].
 * back 0: y = x. back 1, over the elements of x: x = y inside and 0 outside, or
 * with add x += y inside. */
kernel void bn_slice(BN_BUFFER(x), BN_BUFFER(y), const long n, const long all, const long start,
                     const long length, const long inner, const int back, const int add)
{
    BN_POINTER(float, x);
    BN_POINTER(float, y);
    const long first = (long)get_group_id(0) * BN_FLAT, end = min(first + BN_FLAT, n);
    for (long i = first + (BN_CPU ? 0 : get_local_id(0)); i < end;
         i += BN_CPU ? 1 : get_local_size(0)) {
        const long width = (back ? all : length) * inner, outer = i / width, at = i % width;
        if (!back) {
            y[i] = x[(outer * all + start) * inner + at];
        } else {
            const long inside = at - start * inner;
            const int in = inside >= 0 && inside < length * inner;
            const float v = in ? y[outer * length * inner + inside] : 0.0f;
            if (!add)
                x[i] = v;
            else if (in)
                x[i] += v;
        }
    }
}
