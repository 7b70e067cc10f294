#include "bench/limits.h"

#include <stdint.h>
#include <string.h>

#include "cpu/cpu.h"

enum { ROUNDS = 200000, CHAINS = 12 }; /* of one run of one thread; chains hide the latency */

/* Operations of one run. */
typedef double (*limit_fn)(void);

typedef struct limit_run {
    bn_threads *threads;
    limit_fn fn;
    double work;
} limit_run;

#if defined(__x86_64__)
#include <immintrin.h>

/* The compiler neither drops the chains nor knows what is in them. */
#define KEEP(v) __asm__ volatile("" : "+x"(v))

#define CHAIN_BODY(TYPE, ZERO, OPERATION)                                                          \
    TYPE sum[CHAINS], x = ZERO, w = ZERO;                                                          \
    KEEP(x);                                                                                       \
    KEEP(w);                                                                                       \
    _Pragma("GCC unroll 12") for (int c = 0; c < CHAINS; c++) sum[c] = ZERO;                       \
    for (int i = 0; i < ROUNDS; i++) {                                                             \
        _Pragma("GCC unroll 12") for (int c = 0; c < CHAINS; c++)                                  \
        {                                                                                          \
            KEEP(x); /* or what does not depend on a sum would leave the loop */                   \
            sum[c] = OPERATION;                                                                    \
            KEEP(sum[c]);                                                                          \
        }                                                                                          \
    }

__attribute__((target("avx2,fma"))) static double float_avx2(void)
{
    CHAIN_BODY(__m256, _mm256_setzero_ps(), _mm256_fmadd_ps(x, w, sum[c]))
    return 2.0 * 8 * CHAINS * ROUNDS;
}

__attribute__((target("avx2"))) static double int8_avx2(void)
{
    CHAIN_BODY(__m256i, _mm256_setzero_si256(),
               _mm256_add_epi16(sum[c], _mm256_maddubs_epi16(x, w)))
    return 2.0 * 32 * CHAINS * ROUNDS;
}

#undef KEEP
#define KEEP(v) __asm__ volatile("" : "+v"(v))

__attribute__((target("avx512f"))) static double float_avx512(void)
{
    CHAIN_BODY(__m512, _mm512_setzero_ps(), _mm512_fmadd_ps(x, w, sum[c]))
    return 2.0 * 16 * CHAINS * ROUNDS;
}

__attribute__((target("avx512f,avx512vnni"))) static double int8_vnni(void)
{
    CHAIN_BODY(__m512i, _mm512_setzero_si512(), _mm512_dpbusd_epi32(sum[c], x, w))
    return 2.0 * 64 * CHAINS * ROUNDS;
}

__attribute__((target("avx512f,avx512bf16"))) static double bf16_avx512(void)
{
    __m512bh x, w;
    __m512 sum[CHAINS];
    memset(&x, 0, sizeof x);
    memset(&w, 0, sizeof w);
#pragma GCC unroll 12
    for (int c = 0; c < CHAINS; c++)
        sum[c] = _mm512_setzero_ps();
    for (int i = 0; i < ROUNDS; i++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            sum[c] = _mm512_dpbf16_ps(sum[c], x, w);
            KEEP(sum[c]);
        }
    }
    return 2.0 * 32 * CHAINS * ROUNDS;
}

static void choose(const char *isa, limit_fn fns[BENCH_LIMITS])
{
    const bool wide = strncmp(isa, "avx512", 6) == 0;
    if (strcmp(isa, "avx2") != 0 && !wide)
        return;
    fns[BENCH_FLOAT] = wide ? float_avx512 : float_avx2;
    fns[BENCH_INT8] = wide && __builtin_cpu_supports("avx512vnni") ? int8_vnni : int8_avx2;
    fns[BENCH_BF16] = __builtin_cpu_supports("avx512bf16") ? bf16_avx512 : NULL;
}
#else
static void choose(const char *isa, limit_fn fns[BENCH_LIMITS])
{
    (void)isa;
    (void)fns;
}
#endif

static void run_thread(void *arg, int64_t chunk, int worker)
{
    (void)worker;
    limit_run *l = arg;
    const double work = l->fn();
    if (chunk == 0)
        l->work = work;
}

static bn_status run_all(void *arg)
{
    limit_run *l = arg;
    bn_parallel_for(l->threads, bn_threads_count(l->threads), run_thread, l);
    return BN_OK;
}

bn_status bench_limits(bench *b)
{
    static const char *const names[BENCH_LIMITS] = {
        "limit: float multiply-add", "limit: int8 multiply-add", "limit: bf16 multiply-add"};
    limit_fn fns[BENCH_LIMITS] = {NULL};
    choose(bn_cpu_isa(b->backend), fns);
    for (int i = 0; i < BENCH_LIMITS; i++) {
        limit_run l = {.threads = bn_cpu_threads(b->backend), .fn = fns[i]};
        bench_result r = {.name = names[i],
                          .shape = "registers only",
                          .kind = i == BENCH_INT8 ? "GOPS" : "GFLOP/s",
                          .error = -1};
        if (!l.fn)
            continue;
        BN_TRY(bench_time(b, run_all, &l, &r));
        r.work = l.work * bn_threads_count(l.threads);
        if (bench_wants(b, r.name))
            bench_report(b, &r);
        b->limits[i] = r.work / r.min_s;
    }
    return bench_memory_read(b);
}
