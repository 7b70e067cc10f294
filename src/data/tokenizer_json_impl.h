/* tokenizer_json_impl.h - what the files that read a tokenizer.json share. */
#ifndef BN_DATA_TOKENIZER_JSON_IMPL_H
#define BN_DATA_TOKENIZER_JSON_IMPL_H

#include "base/json.h"
#include "base/sha256.h"
#include "data/bpe_tokenizer.h"

typedef struct bn_json_reader {
    bn_bpe_tokenizer *t;
    const cJSON *root, *model, *vocab, *added;
    bool unigram;
    bool sentencepiece; /* the model came out of a tokenizer.model */
    bool byte_level;    /* the pre-tokenizer says so */
    bool marks;         /* U+2581 stands for spaces */
    bool spaces_split;  /* a word per space */
    bool re_prefixes;   /* a pre-tokenizer puts something in front of what follows added tokens */
    bn_sha256 sha;      /* of all that decides the mapping */
} bn_json_reader;

/* NULL for null, too. */
const cJSON *bn_json_member(const cJSON *object, const char *key);
bool bn_json_is_true(const cJSON *object, const char *key);
/* "" if it is missing or no string. */
const char *bn_json_text_of(const cJSON *object, const char *key);

void bn_json_hash_int(bn_json_reader *r, int64_t value);
void bn_json_hash_text(bn_json_reader *r, const char *text);

/* BN_BAD_DATA: "WHAT "TYPE" is not supported; there is: KNOWN" */
bn_status bn_json_not_supported(const char *what, const char *type,
                                const char *known) BN_MUST_CHECK;

/* The normalizer and the pre-tokenizer, into the tokenizer and the reader. */
bn_status bn_json_read_steps(bn_json_reader *r) BN_MUST_CHECK;

#endif
