/* sampler.h - choosing a token from logits.
 *
 * temperature 0 is greedy (lowest index wins a tie). Else: divide by the
 * temperature, keep the top_k largest (0: all), then the smallest set whose
 * probability reaches top_p (1: all; Holtzman et al., arXiv 1904.09751), and
 * draw from what is left. Reproducible given the generator.
 */
#ifndef BN_MODEL_SAMPLER_H
#define BN_MODEL_SAMPLER_H

#include <stdint.h>

#include "base/rng.h"
#include "base/status.h"

typedef struct bn_sampler {
    double temperature; /* >= 0 */
    int64_t top_k;      /* >= 0 */
    double top_p;       /* 0 < top_p <= 1 */
    bn_rng rng;
} bn_sampler;

/* `order` is scratch for n indices. BN_FAIL if no logit is finite. */
bn_status bn_sampler_choose(bn_sampler *sampler, const float *logits, int64_t n, int32_t *order,
                            int32_t *token) BN_MUST_CHECK;

#endif
