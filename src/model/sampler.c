#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>

/* Sift-down over indices ordered by logit, larger first; ties by index. */
static int before(const float *logits, int32_t a, int32_t b)
{
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
}

static void sift(const float *logits, int32_t *heap, int64_t n, int64_t at)
{
    for (;;) {
        int64_t best = at;
        for (int64_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
            if (before(logits, heap[child], heap[best]))
                best = child;
        if (best == at)
            return;
        int32_t moved = heap[at];
        heap[at] = heap[best];
        heap[best] = moved;
        at = best;
    }
}

static double weight(const bn_sampler *sampler, float logit, float top)
{
    return exp((double)(logit - top) / sampler->temperature);
}

bn_status bn_sampler_choose(bn_sampler *sampler, const float *logits, int64_t n, int32_t *order,
                            int32_t *token)
{
    int64_t kept = 0, finite = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(logits[i]))
            order[finite++] = (int32_t)i;
    if (finite == 0)
        return bn_error(BN_FAIL, "none of the %lld logits is finite", (long long)n);
    for (int64_t i = finite / 2 - 1; i >= 0; i--)
        sift(logits, order, finite, i);
    *token = order[0];
    if (sampler->temperature <= 0)
        return BN_OK;

    /* Take candidates from the heap, best first, to its end: order[] is then
     * read backwards from finite-1. Without top_k the total is known at once
     * and taking can stop at top_p; with it, the total is that of the k. */
    const float top = logits[order[0]];
    const int64_t limit = sampler->top_k > 0 && sampler->top_k < finite ? sampler->top_k : finite;
    double total = 0, sum = 0;
    for (int64_t i = 0; i < finite && limit == finite; i++)
        total += weight(sampler, logits[order[i]], top);
    while (kept < limit && !(limit == finite && sum >= sampler->top_p * total)) {
        const int64_t left = finite - kept++;
        int32_t best = order[0];
        order[0] = order[left - 1];
        order[left - 1] = best;
        sift(logits, order, left - 1, 0);
        sum += weight(sampler, logits[best], top);
    }
    if (limit < finite) {
        total = sum;
        sum = 0;
        for (int64_t k = kept, i = 0; i < k && sum < sampler->top_p * total; i++) {
            sum += weight(sampler, logits[order[finite - 1 - i]], top);
            kept = i + 1;
        }
    }
    double reach = bn_rng_uniform(&sampler->rng) * sum, at = 0;
    for (int64_t i = 0; i < kept; i++) {
        *token = order[finite - 1 - i];
        at += weight(sampler, logits[*token], top);
        if (at > reach)
            break;
    }
    return BN_OK;
}
