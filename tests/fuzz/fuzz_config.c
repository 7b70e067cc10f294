/* A configuration: JSON, then how the values fit; a config that is accepted
 * says the same after it was printed and read again. */
#include <stdlib.h>

#include "config/config.h"
#include "fuzz.h"

static void check_dump(const bn_config *config)
{
    bn_config again;
    bn_config_diff diff = {0};
    char *json = NULL;
    if (bn_config_dump(config, &json) != BN_OK || bn_config_parse(json, "again", &again) != BN_OK)
        fuzz_broken("the dump of a config is no config");
    if (bn_config_compare(config, &again, &diff) != BN_OK || diff.count != 0)
        fuzz_broken("the dump of a config is another config");
    bn_config_diff_clear(&diff);
    bn_config_clear(&again);
    free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_string(data, size);
    bn_config config;
    if (fuzz_status(bn_config_parse(text, "config.json", &config), BN_BAD_CONFIG)) {
        (void)fuzz_status(bn_config_check(&config, "config.json"), BN_BAD_CONFIG);
        check_dump(&config);
        /* The same bytes as one --set. */
        if (fuzz_status(bn_config_set(&config, text), BN_BAD_CONFIG))
            check_dump(&config);
        bn_config_clear(&config);
    } else if (bn_config_init(&config) == BN_OK) {
        if (fuzz_status(bn_config_set(&config, text), BN_BAD_CONFIG))
            check_dump(&config);
        bn_config_clear(&config);
    }
    free(text);
    return 0;
}

void fuzz_seeds(void)
{
    bn_config config;
    char *json;
    if (bn_config_init(&config) != BN_OK || bn_config_dump(&config, &json) != BN_OK)
        fuzz_broken("no default config");
    fuzz_seed_text("defaults.json", json);
    fuzz_seed_text("empty.json", "{}");
    fuzz_seed_text("aliases.json", "{\"n_layer\": 2, \"n_head\": 2, \"n_embd\": 64, "
                                   "\"block_size\": 32, \"data\": {\"train\": [\"a\"]}}");
    fuzz_seed_text("rules.json",
                   "{\"quantization\": {\"rules\": [{\"match\": \"layers.0\", \"weight_bits\": "
                   "\"none\"}, {\"match\": \"*.o_proj\", \"group_size\": 0}]}}");
    fuzz_seed_text("set", "quantization.modules_to_not_convert=[\"lm_head\",\"layers.0\"]");
    fuzz_seed_text("set_number", "training.learning_rate=1e-3");
    free(json);
    bn_config_clear(&config);
}
