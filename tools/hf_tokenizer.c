#include "tools/hf_tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "data/bpe_tokenizer.h"

/* use_regex false: the text is one word, so nothing else cuts it. */
static void put_byte_level(bn_json *json, const char *key)
{
    bn_json_object(json, key);
    bn_json_string(json, "type", "ByteLevel");
    bn_json_bool(json, "add_prefix_space", false);
    bn_json_bool(json, "trim_offsets", true);
    bn_json_bool(json, "use_regex", false);
    bn_json_object_end(json);
}

static void put_vocab(bn_json *json)
{
    bn_json_object(json, "vocab");
    for (int byte = 0; byte < 256; byte++) {
        const int c = bn_byte_to_char((unsigned char)byte);
        const char one[] = {(char)c, 0};
        const char two[] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f)), 0};
        bn_json_int(json, c < 0x80 ? one : two, byte);
    }
    bn_json_object_end(json);
}

bn_status bn_hf_byte_tokenizer(char **out)
{
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "version", "1.0");
    bn_json_array(&json, "added_tokens");
    bn_json_array_end(&json);
    bn_json_null(&json, "normalizer");
    put_byte_level(&json, "pre_tokenizer");
    bn_json_null(&json, "post_processor");
    put_byte_level(&json, "decoder");
    bn_json_object(&json, "model");
    bn_json_string(&json, "type", "BPE");
    put_vocab(&json);
    bn_json_array(&json, "merges");
    bn_json_array_end(&json);
    bn_json_object_end(&json);
    bn_json_object_end(&json);
    return bn_json_take(&json, out);
}

bn_status bn_hf_is_byte_tokenizer(const char *path, bool *yes)
{
    char *expected = NULL, *found = NULL;
    uint64_t size;
    bn_status status = BN_OK;
    *yes = false;
    BN_TRY_OUT(bn_hf_byte_tokenizer(&expected));
    BN_TRY_OUT(bn_fs_size(path, &size));
    if (size != strlen(expected))
        goto out;
    BN_TRY_OUT(bn_fs_read(path, (size_t)size, &found, NULL));
    *yes = strcmp(found, expected) == 0;
out:
    free(expected);
    free(found);
    return status;
}
