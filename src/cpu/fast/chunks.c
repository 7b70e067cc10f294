/* Loops over chunks, and sums over rows that do not depend on the threads. */
#include "cpu/fast/fast_impl.h"

#include <string.h>

typedef struct ranges {
    int64_t n, per_chunk;
    bn_range_fn fn;
    void *arg;
} ranges;

static void run_range(void *arg, int64_t chunk, int worker)
{
    const ranges *r = arg;
    int64_t begin = chunk * r->per_chunk;
    r->fn(r->arg, begin, bn_fast_min(begin + r->per_chunk, r->n), worker);
}

void bn_fast_ranges(const bn_backend *backend, int64_t n, int64_t per_chunk, bn_range_fn fn,
                    void *arg)
{
    if (n <= per_chunk) {
        fn(arg, 0, n, 0);
        return;
    }
    ranges r = {n, per_chunk, fn, arg};
    bn_parallel_for(bn_cpu_of(backend)->threads, bn_ceil_div(n, per_chunk), run_range, &r);
}

typedef struct sums {
    const bn_rowops *ops;
    const float *dy, *parts;
    float *out, *sum;
    int64_t cols, count, part_rows;
    bool add;
} sums;

static void add_parts(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const sums *s = arg;
    for (int64_t p = 0; p < s->count; p++)
        s->ops->copy_add(end - begin, s->parts + p * s->cols + begin, s->sum + begin,
                         s->add || p > 0);
}

void bn_fast_add_parts(const bn_backend *backend, const float *parts, int64_t count, int64_t cols,
                       float *sum, bool add)
{
    sums s = {.ops = bn_fast_ops(backend),
              .parts = parts,
              .count = count,
              .cols = cols,
              .sum = sum,
              .add = add};
    bn_fast_ranges(backend, cols, BN_CHUNK_ELEMENTS / 8, add_parts, &s);
}

static void sum_part(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const sums *s = arg;
    s->ops->column_sums(end - begin, s->cols, s->dy + begin * s->cols,
                        s->out + begin / s->part_rows * s->cols);
}

void bn_fast_column_sums(const bn_backend *backend, int64_t rows, int64_t cols, const float *dy,
                         float *parts, float *db, bool add)
{
    sums s = {.ops = bn_fast_ops(backend),
              .dy = dy,
              .out = parts,
              .cols = cols,
              .part_rows = bn_fast_part_rows(rows)};
    bn_fast_ranges(backend, rows, s.part_rows, sum_part, &s);
    bn_fast_add_parts(backend, parts, bn_fast_parts(rows), cols, db, add);
}
