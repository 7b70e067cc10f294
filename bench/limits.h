/* limits.h - what this machine's arithmetic can do at most: the rates that the
 * figures of kernels are measured against.
 *
 * All threads run chains of one instruction on registers, no memory involved,
 * of the instruction set that the backend uses:
 *   float multiply-add   vfmadd
 *   int8 multiply-add    vpmaddubsw with an addition (AVX2), vpdpbusd (VNNI)
 *   bf16 multiply-add    vdpbf16ps, where the CPU has it; for comparison only
 * A multiply-add is two operations. Other instruction sets have no limits here.
 */
#ifndef BN_BENCH_LIMITS_H
#define BN_BENCH_LIMITS_H

#include "bench/harness.h"

/* Measures and reports them, as far as --filter wants, and keeps them in
 * `b->limits`, from where bench_report() takes the share that a row reaches. */
bn_status bench_limits(bench *b) BN_MUST_CHECK;

#endif
