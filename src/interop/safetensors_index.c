/* The reading half of safetensors.h: a model in one or several files. */
#include <stdlib.h>
#include <string.h>

#include "interop/safetensors_impl.h"

enum { MAX_INDEX = 64 << 20 }; /* bytes */

/* The files that the index names, each once, sorted. */
static bn_status list_shards(const char *index, const cJSON *map, bn_strings *out)
{
    bn_strings all = {0};
    bn_status status = BN_OK;
    const cJSON *item;
    cJSON_ArrayForEach(item, map)
    {
        const char *name = cJSON_IsString(item) ? item->valuestring : "";
        if (!*name || strchr(name, '/') || strstr(name, "..")) {
            status = bn_error(BN_BAD_DATA,
                              "%s: %.200s: expected the name of a file in the same folder, "
                              "found '%.200s'",
                              index, item->string, name);
            goto out;
        }
        BN_TRY_OUT(bn_strings_add(&all, name));
    }
    bn_strings_sort(&all);
    for (size_t i = 0; i < all.count; i++)
        if (i == 0 || strcmp(all.items[i - 1], all.items[i]) != 0)
            BN_TRY_OUT(bn_strings_add(out, all.items[i]));
out:
    bn_strings_clear(&all);
    return status;
}

/* Index and files say the same. */
static bn_status check_map(const char *index, const cJSON *map, const bn_st_reader *reader)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, map)
    {
        const bn_st_tensor *t = bn_st_find(reader, item->string);
        /* The path is the folder's, a slash and the name. */
        if (!t || strcmp(strrchr(t->path, '/') + 1, item->valuestring) != 0)
            return bn_error(BN_BAD_DATA, "%s: %.200s: expected in %.200s, found %s", index,
                            item->string, item->valuestring, t ? t->path : "nowhere");
    }
    /* Keys are unique and so are tensors: equal numbers, equal sets. */
    if (cJSON_GetArraySize(map) != bn_st_count(reader))
        return bn_error(BN_BAD_DATA, "%s: names %d tensors, its files hold %d", index,
                        cJSON_GetArraySize(map), bn_st_count(reader));
    return BN_OK;
}

static bn_status add_shards(const char *dir, const bn_strings *shards, bn_st_reader *reader)
{
    reader->files = calloc(shards->count + 1, sizeof *reader->files);
    if (!reader->files)
        return bn_error_nomem("the list of files", shards->count * sizeof *reader->files);
    for (size_t i = 0; i < shards->count; i++) {
        char *path = bn_path_join(dir, shards->items[i]);
        bn_status status = path ? bn_st_add_file(reader, path) : BN_FAIL;
        free(path);
        BN_TRY(status);
    }
    return bn_st_finish(reader);
}

static bn_status open_index(const char *dir, const char *index, bn_st_reader **out)
{
    bn_status status = BN_OK;
    bn_strings shards = {0};
    cJSON *json = NULL;
    bn_st_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return bn_error_nomem(index, sizeof *reader);
    BN_TRY_OUT(bn_json_read(index, MAX_INDEX, &json));
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(json, "weight_map");
    if (!cJSON_IsObject(map)) {
        status = bn_error(BN_BAD_DATA, "%s: weight_map: expected an object", index);
        goto out;
    }
    BN_TRY_OUT(list_shards(index, map, &shards));
    BN_TRY_OUT(add_shards(dir, &shards, reader));
    BN_TRY_OUT(check_map(index, map, reader));
    *out = reader;
    reader = NULL;
out:
    bn_st_close(reader);
    cJSON_Delete(json);
    bn_strings_clear(&shards);
    return status;
}

bn_status bn_st_open_dir(const char *dir, bn_st_reader **out)
{
    *out = NULL;
    char *index = bn_path_join(dir, "model.safetensors.index.json");
    char *single = bn_path_join(dir, "model.safetensors");
    bn_status status = BN_FAIL;
    if (index && single) {
        if (bn_fs_exists(index))
            status = open_index(dir, index, out);
        else if (bn_fs_exists(single))
            status = bn_st_open(single, out);
        else
            status = bn_error(BN_NO_INPUT,
                              "%s: no model.safetensors and no model.safetensors.index.json", dir);
    }
    free(index);
    free(single);
    return status;
}
