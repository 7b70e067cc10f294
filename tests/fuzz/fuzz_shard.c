/* A token shard, read with the byte tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "data/corpus.h"
#include "data/token_shard.h"
#include "fuzz.h"

static bn_tokenizer *byte_tokenizer(void)
{
    static bn_tokenizer *tokenizer; /* one for all inputs */
    if (!tokenizer && bn_tokenizer_new("byte", &tokenizer) != BN_OK)
        fuzz_broken("no byte tokenizer");
    return tokenizer;
}

/* What a reader does with it: every token is there and in range. */
static void read_all(const char *path)
{
    bn_corpus *corpus;
    int32_t ids[256];
    if (!fuzz_status(bn_corpus_open(path, byte_tokenizer(), &corpus), BN_OK))
        return;
    const int64_t count = bn_corpus_size(corpus);
    for (int64_t at = 0; at < count; at += 256) {
        const int64_t n = count - at < 256 ? count - at : 256;
        bn_corpus_copy(corpus, at, n, ids);
        for (int64_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] > 255)
                fuzz_broken("a token outside the vocabulary");
    }
    bn_corpus_free(corpus);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bn_shard shard;
    uint8_t *aligned = malloc(size + 1); /* its own, so that an overrun shows */
    if (!aligned)
        fuzz_broken("no memory");
    memcpy(aligned, data, size);
    const bool ok = fuzz_status(bn_shard_parse(aligned, size, byte_tokenizer(), &shard), BN_OK);
    if (ok && (shard.count < 1 || (uint64_t)shard.count > size))
        fuzz_broken("more tokens than bytes");
    free(aligned);
    if (size > 0)
        read_all(fuzz_file("shard", data, size));
    return 0;
}

void fuzz_seeds(void)
{
    static const char wide[] =
        "BNTOKENS\1\0\0\0\4\0\0\0\2\0\0\0\0\0\0\0etyb\0\0\0\0byte\0\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\7\0\0\0\377\0\0\0";
    const int32_t ids[] = {0, 1, 100, 255};
    bn_shard_writer *writer;
    const char *path = fuzz_path("seed.bnt");
    if (bn_shard_writer_new(path, byte_tokenizer(), &writer) != BN_OK ||
        bn_shard_writer_append(writer, ids, 4) != BN_OK || bn_shard_writer_finish(writer) != BN_OK)
        fuzz_broken("cannot write a shard");
    bn_shard_writer_free(writer);
    fuzz_seed_file("bytes.bnt", path);
    fuzz_seed("wide.bnt", wide, sizeof wide - 1);
    fuzz_seed_text("text", "not a shard\n");
}
