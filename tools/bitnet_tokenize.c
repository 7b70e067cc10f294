/* bitnet-tokenize - trains a tokenizer, encodes texts to token shards, and back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/signals.h"
#include "base/timer.h"
#include "data/bpe_train.h"
#include "data/corpus.h"
#include "data/encode_text.h"
#include "data/token_shard.h"
#include "tools/tool_main.h"

struct args {
    const char *command, *output, *tokenizer, *end;
    bn_strings files, special;
    int64_t vocab_size, min_frequency, threads;
    bool quiet;
};

static const bn_option options[] = {
    {"output", 'o', "FILE", BN_OPT_STRING, offsetof(struct args, output),
     "train: the tokenizer.json; encode: the token shard (.bnt); decode: the text, else stdout"},
    {"tokenizer", 't', "FILE", BN_OPT_STRING, offsetof(struct args, tokenizer),
     "encode, decode: byte, or a tokenizer.json or tokenizer.model"},
    {"vocab-size", 0, "N", BN_OPT_I64, offsetof(struct args, vocab_size),
     "train: tokens in all, the 256 bytes included (4096)"},
    {"min-frequency", 0, "N", BN_OPT_I64, offsetof(struct args, min_frequency),
     "train: pairs that occur less often become no token (2)"},
    {"special", 0, "TOKEN", BN_OPT_LIST, offsetof(struct args, special),
     "train: a special token, such as <|endoftext|>; may be repeated; ids from 0"},
    {"end", 0, "TOKEN", BN_OPT_STRING, offsetof(struct args, end),
     "encode: put this token behind every file"},
    {"threads", 0, "N", BN_OPT_I64, offsetof(struct args, threads),
     "encode: CPU threads; 0 takes all (0); results do not depend on it"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "no progress on stderr"},
    {0}};

static const bn_positional positionals[] = {
    {"COMMAND", BN_POS_ONE, offsetof(struct args, command), "train, encode or decode"},
    {"FILE", BN_POS_MANY, offsetof(struct args, files), "texts; for decode token shards"},
    {0}};

static const bn_program program = {
    "bitnet-tokenize", "Trains a tokenizer, encodes texts to token shards, and back.", options,
    positionals,
    "  bitnet-tokenize train TEXT... -o tokenizer.json --vocab-size 4096\n"
    "  bitnet-tokenize encode TEXT... -t tokenizer.json -o text.bnt\n"
    "  bitnet-tokenize decode text.bnt -t tokenizer.json\n"
    "A shard is what data.train takes; data.tokenizer names the same tokenizer.json. train and\n"
    "encode print one JSON object. Exit codes: 0 done, 1 failure, 2 usage, 65 bad data, 66 input\n"
    "missing, 74 I/O error, 75 interrupted: nothing was written.\n"};

static bn_status need(const char *value, const char *option, const char *command)
{
    return value ? BN_OK : bn_error(BN_USAGE, "%s: %s is missing", command, option);
}

/* ---- train ---- */

static bn_status add_file(bn_bpe_trainer *trainer, const char *path)
{
    bn_map map;
    BN_TRY(bn_map_open(path, &map));
    bn_status status = bn_error_in(bn_bpe_trainer_add(trainer, map.data, map.size), path);
    bn_map_close(&map);
    return status;
}

static bn_status train(const struct args *args)
{
    bn_bpe_trainer *trainer = NULL;
    bn_tokenizer *check = NULL;
    bn_status status = BN_OK;
    char *text = NULL;
    int64_t size = 0;
    BN_TRY(need(args->output, "-o FILE", "train"));
    if (args->min_frequency < 1)
        return bn_error(BN_USAGE, "--min-frequency %lld: expected 1 or more",
                        (long long)args->min_frequency);
    BN_TRY_OUT(bn_bpe_trainer_new(&trainer));
    for (size_t i = 0; i < args->files.count; i++)
        BN_TRY_OUT(add_file(trainer, args->files.items[i]));
    BN_TRY_OUT(bn_bpe_trainer_finish(trainer, args->vocab_size, args->min_frequency, &args->special,
                                     &text, &size));
    BN_TRY_OUT(bn_tokenizer_new(text, &check)); /* nothing is written that cannot be read */
    BN_TRY_OUT(bn_fs_write(args->output, text, strlen(text)));
    if (size < args->vocab_size && !args->quiet)
        fprintf(stderr, "bitnet-tokenize: the texts give %lld tokens, not %lld\n", (long long)size,
                (long long)args->vocab_size);
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "tokenizer", args->output);
    bn_json_int(&json, "vocab_size", size);
    bn_json_object_end(&json);
    status = bn_tool_print_json(&json);
out:
    bn_tokenizer_free(check);
    bn_bpe_trainer_free(trainer);
    free(text);
    return status;
}

/* ---- encode ---- */

typedef struct encoding {
    bn_shard_writer *writer;
    bn_map map; /* of the present file */
    size_t dropped;
    int64_t bytes, all_bytes, tokens;
    double start, shown;
    bool progress;
} encoding;

static bn_status take_ids(void *arg, const int32_t *ids, size_t count, size_t done)
{
    encoding *e = arg;
    if (bn_signals_received())
        return bn_error(BN_INTERRUPTED, "interrupted: no shard was written");
    BN_TRY(bn_shard_writer_append(e->writer, ids, count));
    e->tokens += (int64_t)count;
    e->dropped = bn_map_drop(&e->map, e->dropped, done);
    const double now = bn_seconds(), bytes = (double)e->bytes + (double)done;
    if (e->progress && now - e->shown > 0.2) {
        e->shown = now;
        fprintf(stderr, "\r%5.1f %%  %.1f MB/s  %lld tokens ", 100.0 * bytes / (double)e->all_bytes,
                bytes / 1e6 / (now - e->start), (long long)e->tokens);
    }
    return BN_OK;
}

/* A token that is found in text, or else one of that name: SentencePiece does not
 * find its special tokens. */
static bn_status end_id(const bn_tokenizer *tokenizer, const char *token, bn_ids *out)
{
    const size_t bytes = strlen(token);
    const bn_text_part part = {.text = token, .bytes = bytes, .to = bytes, .fresh = true};
    bn_text_part rest;
    BN_TRY(bn_tokenizer_encode_part(tokenizer, &part, out, &rest));
    if (out->count == 1)
        return BN_OK;
    const size_t count = out->count;
    out->count = 0;
    for (int32_t id = 0; id < bn_tokenizer_vocab_size(tokenizer); id++) {
        size_t length;
        const unsigned char *piece = bn_tokenizer_piece(tokenizer, id, &length);
        if (length == bytes && memcmp(piece, token, bytes) == 0)
            return bn_ids_add(out, &id, 1);
    }
    return bn_error(BN_USAGE, "--end \"%.60s\" is %zu tokens, expected 1", token, count);
}

static bn_status encode_file(const char *path, const bn_tokenizer *tokenizer, bn_threads *threads,
                             const bn_ids *end, encoding *e)
{
    e->dropped = 0;
    BN_TRY(bn_map_open(path, &e->map));
    bn_status status = bn_encode_text(tokenizer, threads, e->map.data, e->map.size, take_ids, e);
    if (status == BN_BAD_DATA)
        status = bn_error_in(status, path);
    if (status == BN_OK && end->count > 0)
        status = take_ids(e, end->items, end->count, e->map.size);
    e->bytes += (int64_t)e->map.size;
    bn_map_close(&e->map);
    return status;
}

static bn_status report_encoding(const struct args *args, const encoding *e)
{
    const double seconds = bn_seconds() - e->start;
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_string(&json, "shard", args->output);
    bn_json_int(&json, "bytes", e->bytes);
    bn_json_int(&json, "tokens", e->tokens);
    bn_json_double(&json, "bytes_per_token", (double)e->bytes / (double)e->tokens);
    bn_json_double(&json, "elapsed_s", seconds);
    bn_json_double(&json, "megabytes_per_second", (double)e->bytes / 1e6 / seconds);
    bn_json_object_end(&json);
    return bn_tool_print_json(&json);
}

static bn_status encode(const struct args *args)
{
    bn_tokenizer *tokenizer = NULL;
    bn_threads *threads = NULL;
    bn_ids end = {0};
    bn_status status = BN_OK;
    encoding e = {.start = bn_seconds(), .progress = !args->quiet && isatty(STDERR_FILENO)};
    BN_TRY(need(args->output, "-o FILE", "encode"));
    BN_TRY(need(args->tokenizer, "-t FILE", "encode"));
    if (args->threads < 0 || args->threads > 4096)
        return bn_error(BN_USAGE, "--threads %lld: expected 0 to 4096", (long long)args->threads);
    BN_TRY_OUT(bn_tokenizer_open(args->tokenizer, &tokenizer));
    if (args->end)
        BN_TRY_OUT(end_id(tokenizer, args->end, &end));
    for (size_t i = 0; i < args->files.count; i++) {
        uint64_t bytes;
        BN_TRY_OUT(bn_fs_size(args->files.items[i], &bytes));
        e.all_bytes += (int64_t)bytes;
    }
    BN_TRY_OUT(bn_signals_install());
    BN_TRY_OUT(bn_threads_new((int)args->threads, &threads));
    BN_TRY_OUT(bn_shard_writer_new(args->output, tokenizer, &e.writer));
    e.start = bn_seconds();
    for (size_t i = 0; i < args->files.count; i++)
        BN_TRY_OUT(encode_file(args->files.items[i], tokenizer, threads, &end, &e));
    BN_TRY_OUT(bn_shard_writer_finish(e.writer));
    if (e.progress)
        fputs("\r\033[K", stderr);
    status = report_encoding(args, &e);
out:
    bn_shard_writer_free(e.writer);
    bn_threads_free(threads);
    bn_ids_clear(&end);
    bn_tokenizer_free(tokenizer);
    return status;
}

/* ---- decode ---- */

static bn_status decode_file(const char *path, const bn_tokenizer *tokenizer, bn_text *out)
{
    bn_corpus *corpus;
    bn_status status = BN_OK;
    char *text = NULL;
    BN_TRY(bn_corpus_open(path, tokenizer, &corpus));
    const size_t count = (size_t)bn_corpus_size(corpus);
    int32_t *ids = malloc(count * sizeof *ids);
    if (!ids) {
        status = bn_error_nomem(path, count * sizeof *ids);
        goto out;
    }
    bn_corpus_copy(corpus, 0, (int64_t)count, ids);
    size_t bytes = (size_t)bn_tokenizer_count_bytes(tokenizer, ids, count);
    text = malloc(bytes + 1);
    if (!text) {
        status = bn_error_nomem(path, bytes);
        goto out;
    }
    BN_TRY_OUT(bn_tokenizer_decode(tokenizer, ids, count, text, bytes, &bytes));
    bn_text_add_bytes(out, text, bytes);
out:
    free(text);
    free(ids);
    bn_corpus_free(corpus);
    return status;
}

static bn_status decode(const struct args *args)
{
    bn_tokenizer *tokenizer;
    bn_text text = {0};
    bn_status status = BN_OK;
    BN_TRY(need(args->tokenizer, "-t FILE", "decode"));
    BN_TRY(bn_tokenizer_open(args->tokenizer, &tokenizer));
    for (size_t i = 0; i < args->files.count; i++)
        BN_TRY_OUT(decode_file(args->files.items[i], tokenizer, &text));
    if (text.failed)
        status = bn_error_nomem("the text", text.size);
    else if (args->output)
        status = bn_fs_write(args->output, text.data, text.size);
    else if (fwrite(text.data, 1, text.size, stdout) != text.size || fflush(stdout) != 0)
        status = bn_error(BN_IO, "standard output: cannot be written");
out:
    bn_text_clear(&text);
    bn_tokenizer_free(tokenizer);
    return status;
}

static bn_status run(void *arg)
{
    static const struct {
        const char *name;
        bn_status (*run)(const struct args *args);
    } commands[] = {{"train", train}, {"encode", encode}, {"decode", decode}};
    const struct args *args = arg;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, args->command) == 0)
            return commands[i].run(args);
    return bn_error(BN_USAGE, "unknown command \"%.60s\"; there is: train, encode, decode",
                    args->command);
}

int main(int argc, char **argv)
{
    struct args args = {.vocab_size = 4096, .min_frequency = 2};
    const int status = bn_tool_main_with(&program, NULL, run, &args, argc, argv);
    bn_strings_clear(&args.files);
    bn_strings_clear(&args.special);
    return status;
}
