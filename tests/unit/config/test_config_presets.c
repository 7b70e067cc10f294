/* The files in configs/ are good and have the shapes they promise. */
#include "cmocka_all.h"

#include <stdlib.h>

#include "base/fs.h"
#include "config/config.h"

static void load(const char *name, bn_config *out)
{
    char *path = bn_format("%s/configs/%s", getenv("BITNET_SOURCE_DIR"), name);
    assert_non_null(path);
    assert_ok(bn_config_load(path, out));
    assert_ok(bn_config_check(out, path));
    free(path);
}

static void test_all_are_good(void **state)
{
    (void)state;
    bn_strings names;
    char *folder = bn_format("%s/configs", getenv("BITNET_SOURCE_DIR"));
    assert_ok(bn_fs_list(folder, NULL, ".json", &names));
    assert_true(names.count >= 5);
    for (size_t i = 0; i < names.count; i++) {
        bn_config c;
        load(names.items[i], &c);
        bn_config_clear(&c);
    }
    bn_strings_clear(&names);
    free(folder);
}

static void test_published_shapes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t vocab, hidden, ffn, layers, heads, kv;
        bn_cfg_hidden_act act;
    } shapes[] = {
        {"bitnet-b1.58-700m.json", 32002, 1536, 4096, 24, 16, 16, BN_HIDDEN_ACT_SILU},
        {"bitnet-b1.58-2b4t.json", 128256, 2560, 6912, 30, 20, 5, BN_HIDDEN_ACT_RELU2},
        {"shakespeare-10m.json", 0, 384, 1024, 6, 6, 6, BN_HIDDEN_ACT_RELU2},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bn_config c;
        load(shapes[i].name, &c);
        assert_int_equal(c.model.vocab_size, shapes[i].vocab);
        assert_int_equal(c.model.hidden_size, shapes[i].hidden);
        assert_int_equal(c.model.intermediate_size, shapes[i].ffn);
        assert_int_equal(c.model.num_hidden_layers, shapes[i].layers);
        assert_int_equal(c.model.num_attention_heads, shapes[i].heads);
        assert_int_equal(bn_config_kv_heads(&c), shapes[i].kv);
        assert_int_equal(c.model.hidden_act, shapes[i].act);
        bn_config_clear(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_good),
        cmocka_unit_test(test_published_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
