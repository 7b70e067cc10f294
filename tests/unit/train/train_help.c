#include "train_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rng.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/h5file.h"
#include "cpu/cpu.h"

void help_write_text(const char *path, int bytes)
{
    static const char *const words[] = {"light", "water", "stone", "river", "mountain",
                                        "and",   "the",   "over",  "under", "calls"};
    bn_text text = {0};
    bn_rng rng = bn_rng_of(7, 7);
    while (text.size < (size_t)bytes)
        bn_text_addf(&text, "%s%s", words[bn_rng_below(&rng, 10)],
                     bn_rng_below(&rng, 8) == 0 ? ".\n" : " ");
    assert_ok(bn_fs_write(path, text.data, (size_t)bytes));
    bn_text_clear(&text);
}

void help_config(bn_config *config, const char *out, ...)
{
    static const char base[] =
        "{\"model\": {\"hidden_size\": 32, \"intermediate_size\": 64, \"num_hidden_layers\": 1,"
        " \"num_attention_heads\": 2, \"max_position_embeddings\": 16},"
        " \"quantization\": {\"group_size\": 32}, \"data\": {\"train\": \"text.txt\"},"
        " \"training\": {\"seq_len\": 16, \"batch_size\": 2, \"max_steps\": 20,"
        " \"warmup_steps\": 4, \"log_interval\": 4, \"eval_interval\": 8, \"eval_batches\": 4,"
        " \"save_interval\": 0, \"threads\": 1}}";
    va_list settings;
    if (!bn_fs_exists("text.txt"))
        help_write_text("text.txt", 6000);
    assert_ok(bn_config_parse(base, "base", config));
    char *folder = bn_format("output_dir=%s", out);
    assert_ok(bn_config_set(config, folder));
    free(folder);
    va_start(settings, out);
    for (const char *s = va_arg(settings, const char *); s; s = va_arg(settings, const char *))
        assert_ok(bn_config_set(config, s));
    va_end(settings);
    assert_ok(bn_config_check(config, "test"));
}

void help_remove(const char *folder)
{
    bn_strings names = {0};
    if (!bn_fs_exists(folder))
        return;
    assert_ok(bn_fs_list(folder, NULL, NULL, &names));
    for (size_t i = 0; i < names.count; i++)
        assert_ok(bn_fs_remove(help_path(folder, names.items[i])));
    bn_strings_clear(&names);
    rmdir(folder);
}

char *help_read(const char *path)
{
    char *text;
    assert_ok(bn_fs_read(path, (size_t)1 << 24, &text, NULL));
    return text;
}

const char *help_path(const char *dir, const char *name)
{
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

double help_number(const char *json, const char *key)
{
    cJSON *object;
    assert_ok(bn_json_parse("test", json, strlen(json), &object));
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item || !(cJSON_IsNumber(item) || cJSON_IsNull(item)))
        fail_msg("no number '%s' in %s", key, json);
    double value = cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
    cJSON_Delete(object);
    return value;
}

uint64_t help_checkpoint_hash(const char *path)
{
    bn_h5_reader *file;
    uint64_t hash = 1;
    assert_ok(bn_checkpoint_verify(path));
    assert_ok(bn_h5_open(path, &file));
    for (int i = 0; i < bn_h5_count(file); i++) {
        const bn_h5_entry *e = bn_h5_at(file, i);
        if (strncmp(e->name, "extra/", 6) == 0)
            continue;
        uint8_t *data = malloc(e->bytes);
        assert_non_null(data);
        assert_ok(bn_h5_read(file, e, data));
        for (const char *c = e->name; *c; c++)
            hash = bn_hash64(hash, (uint8_t)*c);
        for (size_t k = 0; k < e->bytes; k++)
            hash = bn_hash64(hash, data[k]);
        free(data);
    }
    bn_h5_close(file);
    return hash;
}

bn_status help_run(const bn_config *config, const bn_run_options *options, char **summary)
{
    static const bn_run_options defaults;
    bn_backend *backend;
    char *text = NULL;
    assert_ok(
        bn_cpu_backend_new(&(bn_cpu_options){.threads = (int)config->training.threads}, &backend));
    bn_status status = bn_run_train(config, backend, options ? options : &defaults, &text);
    bn_backend_free(backend);
    if (summary)
        *summary = text;
    else
        free(text);
    return status;
}

void help_stop_and_resume(const bn_config *straight, const bn_config *stopped, int64_t stop,
                          int64_t steps)
{
    char name[64];
    snprintf(name, sizeof name, "checkpoint-%08lld.h5", (long long)steps);
    help_remove(straight->output_dir);
    help_remove(stopped->output_dir);
    assert_ok(help_run(straight, NULL, NULL));
    assert_int_equal(help_run(stopped, &(bn_run_options){.stop_after = stop}, NULL),
                     BN_INTERRUPTED);
    assert_ok(help_run(stopped, &(bn_run_options){.resume = "auto"}, NULL));
    assert_true(help_checkpoint_hash(help_path(straight->output_dir, name)) ==
                help_checkpoint_hash(help_path(stopped->output_dir, name)));
}
