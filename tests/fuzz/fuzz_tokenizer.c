/* A tokenizer.json, then a zero byte and a text that is encoded and decoded. */
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer.h"
#include "fuzz.h"

enum { TEXT_MAX = 4096 };

static void round_trip(const bn_tokenizer *tokenizer, const char *text, size_t size)
{
    size_t count = 0, bytes = 0;
    const size_t most = bn_tokenizer_max_tokens(tokenizer, size);
    int32_t *ids = malloc((most + 1) * sizeof *ids);
    if (!ids)
        fuzz_broken("no memory");
    if (fuzz_status(bn_tokenizer_encode(tokenizer, text, size, ids, &count), BN_OK)) {
        const int64_t need = bn_tokenizer_count_bytes(tokenizer, ids, count);
        char *back = malloc((size_t)need + 1);
        if (count > most || need < 0 || !back)
            fuzz_broken("more ids than announced");
        for (size_t i = 0; i < count; i++)
            if (ids[i] < 0 || ids[i] >= bn_tokenizer_vocab_size(tokenizer))
                fuzz_broken("an id outside the vocabulary");
        if (bn_tokenizer_decode(tokenizer, ids, count, back, (size_t)need, &bytes) != BN_OK ||
            (int64_t)bytes > need)
            fuzz_broken("ids that were encoded cannot be decoded");
        free(back);
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bn_tokenizer *tokenizer;
    char *json = fuzz_string(data, size);
    const size_t length = strlen(json);
    if (fuzz_status(bn_tokenizer_new(json, &tokenizer), BN_BAD_CONFIG)) {
        const char *text = length < size ? json + length + 1 : json;
        const size_t rest = length < size ? size - length - 1 : size;
        round_trip(tokenizer, text, rest < TEXT_MAX ? rest : TEXT_MAX);
        bn_tokenizer_free(tokenizer);
    }
    free(json);
    return 0;
}

static void seed(const char *name, const char *json)
{
    static const char text[] = "\0 the cat  sat\n on 12 mats, d\xc3\xa9j\xc3\xa0";
    const size_t length = strlen(json);
    char *both = malloc(length + sizeof text);
    if (!both)
        fuzz_broken("no memory");
    memcpy(both, json, length);
    memcpy(both + length, text, sizeof text - 1);
    fuzz_seed(name, both, length + sizeof text - 1);
    free(both);
}

void fuzz_seeds(void)
{
    seed("byte", "byte");
    seed(
        "byte_level",
        "{\"added_tokens\":[{\"id\":9,\"content\":\"<s>\",\"special\":true}],"
        "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}+| ?\\\\p{N}{1,3}|\\\\s+(?!\\\\S)\"},"
        "\"behavior\":\"Isolated\",\"invert\":false},"
        "{\"type\":\"Digits\",\"individual_digits\":true},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]},"
        "\"decoder\":{\"type\":\"ByteLevel\"},"
        "\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{\"t\":0,\"h\":1,\"e\":2,"
        "\"th\":3,\"the\":4,\"\xc4\xa0\":5,\"a\":6,\"1\":7,\"c\":8},"
        "\"merges\":[\"t h\",[\"th\",\"e\"]]}}");
    seed("metaspace",
         "{\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
         "\"\xe2\x96\x81\",\"prepend_scheme\":\"first\",\"split\":true},"
         "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,"
         "\"vocab\":{\"<unk>\":0,\"<0x0A>\":1,\"\xe2\x96\x81\":2,\"c\":3,\"at\":4,\"a\":5,\"t\":6},"
         "\"merges\":[\"a t\"]}}");
    seed("sentencepiece",
         "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
         "\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
         "\"content\":\"\xe2\x96\x81\"}]},\"pre_tokenizer\":null,"
         "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,"
         "\"\xe2\x96\x81\":1,\"c\":2,\"a\":3,\"t\":4},\"merges\":[]}}");
}
