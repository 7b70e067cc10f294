/* A training checkpoint: structure, state, every parameter with its moments,
 * the trainer's further bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "fuzz_h5.h"

static void write_valid(const char *path)
{
    static float values[6] = {1, -2, 3, 0.5f, -0.25f, 0};
    const bn_train_state state = {.step = 7,
                                  .tokens_seen = 700,
                                  .best_val_loss = (double)INFINITY,
                                  .best_step = -1,
                                  .config_json = "{}",
                                  .tokenizer = "byte",
                                  .producer = "fuzz",
                                  .device = "cpu"};
    const bn_checkpoint_param params[] = {
        {"model.a", 2, {2, 3}, values, values, values, NULL, NULL},
        {"model.b", 1, {4}, values, values, values, NULL, NULL}};
    const bn_checkpoint_extra extra = {"telemetry", "\1\2\3", 3};
    if (bn_checkpoint_save(path, &state, params, 2, &extra, 1) != BN_OK)
        fuzz_broken("cannot write a checkpoint");
}

static void read_param(bn_checkpoint *c, int i)
{
    bn_checkpoint_param p;
    int64_t n = 1;
    bn_checkpoint_describe(c, i, &p);
    if (bn_checkpoint_expect(c, &p) != BN_OK)
        fuzz_broken("a parameter is not as described");
    for (int d = 0; d < p.ndim; d++)
        n *= p.shape[d];
    p.value = malloc((size_t)n * sizeof *p.value);
    p.moment1 = bn_checkpoint_has_moments(c) ? malloc((size_t)n * sizeof *p.value) : NULL;
    p.moment2 = bn_checkpoint_has_moments(c) ? malloc((size_t)n * sizeof *p.value) : NULL;
    if (!p.value)
        fuzz_broken("no memory");
    if (fuzz_status(bn_checkpoint_load_one(c, &p), BN_OK))
        for (int64_t k = 0; k < n; k++)
            if (!isfinite(p.value[k]))
                fuzz_broken("a weight that is not finite was accepted");
    free(p.value);
    free(p.moment1);
    free(p.moment2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bn_checkpoint *c;
    void *extra;
    size_t bytes;
    const char *path = fuzz_h5_file(data, size, write_valid);
    (void)fuzz_status(bn_checkpoint_verify(path), BN_OK);
    if (!fuzz_status(bn_checkpoint_open(path, &c), BN_OK))
        return 0;
    if (bn_checkpoint_state(c)->step < 0)
        fuzz_broken("a step before the first");
    for (int i = 0; i < bn_checkpoint_count(c); i++)
        read_param(c, i);
    if (fuzz_status(bn_checkpoint_get_extra(c, "telemetry", 64, &extra, &bytes), BN_OK)) {
        if (bytes > 64)
            fuzz_broken("more bytes than allowed");
        free(extra);
    }
    bn_checkpoint_close(c);
    return 0;
}

void fuzz_seeds(void)
{
    fuzz_h5_seeds(write_valid);
}
