/* Merging against the definition, written down plainly: short and long words,
 * random merges over few symbols, so that equal and overlapping pairs abound. */
#include "cmocka_all.h"

#include <string.h>

#include "base/rng.h"
#include "data/bpe.h"

enum { LETTERS = 3, SYMBOLS = 40, LONGEST = 150 };

/* The lowest rank, the leftmost place, until there is none. */
static size_t merge_plainly(const bn_merges *merges, int32_t *ids, size_t n)
{
    for (;;) {
        uint64_t best = BN_NO_MERGE;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const uint64_t found = bn_merges_find(merges, ids[i], ids[i + 1]);
            if (found < best) {
                best = found;
                at = i;
            }
        }
        if (best == BN_NO_MERGE)
            return n;
        ids[at] = (int32_t)(uint32_t)best;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void as_defined(void **state)
{
    (void)state;
    bn_rng rng = bn_rng_of(3, 0);
    bn_bpe_work work = {0};
    for (int round = 0; round < 3000; round++) {
        const int64_t count = 1 + (int64_t)(bn_rng_u64(&rng) % (SYMBOLS - LETTERS));
        int32_t a[LONGEST], b[LONGEST];
        size_t n = bn_rng_u64(&rng) % (LONGEST + 1), merged = 0;
        bn_merges merges;
        assert_ok(bn_merges_init(&merges, count));
        for (int64_t i = 0; i < count; i++) { /* of symbols that are there already */
            const int32_t id = (int32_t)(LETTERS + i);
            bn_merges_put(&merges, (int32_t)(bn_rng_u64(&rng) % (uint64_t)id),
                          (int32_t)(bn_rng_u64(&rng) % (uint64_t)id), i, id);
        }
        for (size_t i = 0; i < n; i++)
            a[i] = b[i] = (int32_t)(bn_rng_u64(&rng) % LETTERS);
        assert_ok(bn_bpe_merge(&merges, &work, a, n, &merged));
        n = merge_plainly(&merges, b, n);
        assert_int_equal(merged, n);
        assert_memory_equal(a, b, n * sizeof *a);
        bn_merges_clear(&merges);
    }
    bn_bpe_work_clear(&work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_defined)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
