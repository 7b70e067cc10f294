/* bitnet-generate - continues a text with a model. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/timer.h"
#include "model/sampler.h"
#include "model/session.h"
#include "tools/tool.h"

struct args {
    const char *model, *prompt, *prompt_file, *stop, *adapter;
    int64_t tokens, top_k;
    double temperature, top_p;
    uint64_t seed;
    bool greedy, int8_head, no_echo, quiet;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"prompt", 'p', "TEXT", BN_OPT_STRING, offsetof(struct args, prompt),
     "text to continue; - reads it from standard input (default: a line break)"},
    {"prompt-file", 0, "FILE", BN_OPT_STRING, offsetof(struct args, prompt_file),
     "read the prompt from FILE"},
    {"tokens", 'n', "N", BN_OPT_I64, offsetof(struct args, tokens), "tokens to make (200)"},
    {"temp", 0, "X", BN_OPT_F64, offsetof(struct args, temperature),
     "temperature; 0 always takes the likeliest token (0.8)"},
    {"greedy", 0, NULL, BN_OPT_FLAG, offsetof(struct args, greedy), "the same as --temp 0"},
    {"top-k", 0, "K", BN_OPT_I64, offsetof(struct args, top_k),
     "draw from the K likeliest tokens; 0 from all (40)"},
    {"top-p", 0, "P", BN_OPT_F64, offsetof(struct args, top_p),
     "and among these, from the fewest that reach probability P (0.95)"},
    {"seed", 0, "N", BN_OPT_U64, offsetof(struct args, seed), "of the random draws (1337)"},
    {"stop", 0, "TEXT", BN_OPT_STRING, offsetof(struct args, stop),
     "end before this text would appear"},
    {"int8-head", 0, NULL, BN_OPT_FLAG, offsetof(struct args, int8_head),
     "round the output head to int8: faster where the vocabulary is large, not the same numbers"},
    {"no-echo", 0, NULL, BN_OPT_FLAG, offsetof(struct args, no_echo), "do not print the prompt"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "no statistics"},
    BN_TOOL_ADAPTER_OPTION(struct args, adapter),
    BN_TOOL_WHERE_OPTIONS(struct args),
    {0}};

static const bn_positional positionals[] = {
    {"MODEL", BN_POS_ONE, offsetof(struct args, model),
     "output folder (its best checkpoint), checkpoint, or packed file"},
    {0}};

static const bn_program program = {
    "bitnet-generate", "Continues a text with a model.", options, positionals,
    "Prompt and continuation go to standard output as bytes, speed to standard error. When the\n"
    "model's context is full, its last half is kept and read again; a longer prompt is cut to\n"
    "its last tokens. The same seed gives the same text. Exit codes: 0 done, 1 failure, 2 usage,\n"
    "65 bad model file, 66 input missing, 69 no device, 74 I/O.\n"};

/* Output that holds back what may turn out to be the stop text. */
typedef struct stream {
    const char *stop; /* NULL: none */
    bn_text held;
    bool stopped;
} stream;

typedef struct run_state {
    const struct args *args;
    const bn_tokenizer *tokenizer;
    bn_session *session;
    bn_sampler sampler;
    int64_t vocab;
    int32_t *tokens; /* prompt and continuation */
    int64_t count;
    float *logits;
    int32_t *order;
    stream out;
} run_state;

static bn_status check_args(const struct args *args)
{
    if (args->tokens < 1)
        return bn_error(BN_USAGE, "-n %lld: expected 1 or more", (long long)args->tokens);
    if (args->temperature < 0)
        return bn_error(BN_USAGE, "--temp %g: expected 0 or more", args->temperature);
    if (args->top_k < 0)
        return bn_error(BN_USAGE, "--top-k %lld: expected 0 or more", (long long)args->top_k);
    if (!(args->top_p > 0 && args->top_p <= 1))
        return bn_error(BN_USAGE, "--top-p %g: expected more than 0, at most 1", args->top_p);
    if (args->prompt && args->prompt_file)
        return bn_error(BN_USAGE, "--prompt and --prompt-file exclude each other");
    if (args->stop && !*args->stop)
        return bn_error(BN_USAGE, "--stop: expected a text that is not empty");
    return BN_OK;
}

/* ---- the prompt ---- */

enum { PROMPT_LIMIT = 64 << 20 };

static bn_status read_standard_input(bn_text *text)
{
    char buffer[4096];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, stdin)) > 0 && text->size <= PROMPT_LIMIT)
        bn_text_add_bytes(text, buffer, n);
    if (ferror(stdin))
        return bn_error(BN_NO_INPUT, "standard input: %s", strerror(errno));
    if (text->size > PROMPT_LIMIT)
        return bn_error(BN_BAD_DATA, "standard input: more than %d bytes of prompt", PROMPT_LIMIT);
    return BN_OK;
}

/* An empty prompt becomes a line break: a model needs something to start from,
 * and text begins after one. */
static bn_status read_prompt(const struct args *args, bn_text *text)
{
    if (args->prompt_file) {
        char *data;
        size_t size;
        BN_TRY(bn_fs_read(args->prompt_file, PROMPT_LIMIT, &data, &size));
        bn_text_add_bytes(text, data, size);
        free(data);
    } else if (args->prompt && strcmp(args->prompt, "-") == 0) {
        BN_TRY(read_standard_input(text));
    } else if (args->prompt) {
        bn_text_add(text, args->prompt);
    }
    if (text->size == 0)
        bn_text_add(text, "\n");
    return text->failed ? bn_error_nomem("the prompt", text->size) : BN_OK;
}

/* ---- output ---- */

static bn_status write_bytes(const char *data, size_t size)
{
    if (size && (fwrite(data, 1, size, stdout) != size || fflush(stdout) == EOF))
        return bn_error(BN_IO, "standard output: %s", strerror(errno));
    return BN_OK;
}

/* Bytes at the end of the held text that could begin the stop text. */
static size_t stop_overlap(const stream *out)
{
    size_t n = strlen(out->stop) - 1;
    n = n < out->held.size ? n : out->held.size;
    while (n > 0 && memcmp(out->held.data + out->held.size - n, out->stop, n) != 0)
        n--;
    return n;
}

static bn_status stream_add(stream *out, const void *data, size_t size)
{
    if (!out->stop)
        return write_bytes(data, size);
    if (size == 0) /* a special token stands for no text */
        return BN_OK;
    bn_text_add_bytes(&out->held, data, size);
    if (out->held.failed)
        return bn_error_nomem("output", size);
    const char *stop = memmem(out->held.data, out->held.size, out->stop, strlen(out->stop));
    out->stopped = stop != NULL;
    const size_t ready =
        stop ? (size_t)(stop - out->held.data) : out->held.size - stop_overlap(out);
    BN_TRY(write_bytes(out->held.data, ready));
    memmove(out->held.data, out->held.data + ready, out->held.size - ready);
    out->held.size -= ready;
    return BN_OK;
}

/* ---- generation ---- */

/* Feeds tokens[from..count-1]; when they do not fit any more, starts over with
 * the last half of a context. */
static bn_status feed(run_state *run, int64_t from)
{
    const int64_t capacity = bn_session_capacity(run->session);
    if (run->count - from > capacity - bn_session_position(run->session)) {
        const int64_t half = capacity > 1 ? capacity / 2 : 1;
        bn_session_rewind(run->session, 0);
        from = run->count - half;
    }
    return bn_session_feed(run->session, run->tokens + from, run->count - from, run->logits);
}

static bn_status generate(run_state *run)
{
    for (int64_t i = 0; i < run->args->tokens && !run->out.stopped; i++) {
        int32_t token;
        size_t length;
        if (i > 0)
            BN_TRY(feed(run, run->count - 1));
        BN_TRY(bn_sampler_choose(&run->sampler, run->logits, run->vocab, run->order, &token));
        run->tokens[run->count++] = token;
        const unsigned char *piece = bn_tokenizer_piece(run->tokenizer, token, &length);
        BN_TRY(stream_add(&run->out, piece, length));
    }
    if (!run->out.stopped)
        BN_TRY(write_bytes(run->out.held.data, run->out.held.size));
    return BN_OK;
}

static void report(int64_t prompt, double prompt_s, int64_t made, double made_s)
{
    fprintf(stderr, "bitnet-generate: prompt %lld tokens, %.0f tokens/s", (long long)prompt,
            (double)prompt / prompt_s);
    if (made > 1) /* the first token comes with the prompt */
        fprintf(stderr, "; generated %lld tokens, %.0f tokens/s", (long long)made,
                (double)(made - 1) / made_s);
    fprintf(stderr, "\n");
}

static bn_status run_session(run_state *run, const bn_text *prompt)
{
    const int64_t capacity = bn_session_capacity(run->session);
    size_t encoded;
    BN_TRY(bn_tokenizer_encode(run->tokenizer, prompt->data, prompt->size, run->tokens, &encoded));
    run->count = (int64_t)encoded;
    const int64_t fed = run->count < capacity ? run->count : capacity;
    if (fed < run->count && !run->args->quiet)
        fprintf(stderr, "bitnet-generate: the prompt has %lld tokens, the last %lld are read\n",
                (long long)run->count, (long long)fed);
    if (!run->args->no_echo)
        BN_TRY(write_bytes(prompt->data, prompt->size));
    const double start = bn_seconds();
    BN_TRY(feed(run, run->count - fed));
    const double middle = bn_seconds();
    const int64_t before = run->count;
    BN_TRY(generate(run));
    const double end = bn_seconds();
    if (isatty(STDOUT_FILENO))
        BN_TRY(write_bytes("\n", 1));
    if (!run->args->quiet)
        report(fed, middle - start, run->count - before, end - middle);
    return BN_OK;
}

static bn_status run_alloc(run_state *run, size_t prompt_bytes)
{
    const uint64_t most = SIZE_MAX / sizeof *run->tokens - 4 * (uint64_t)PROMPT_LIMIT;
    if ((uint64_t)run->args->tokens > most)
        return bn_error_nomem("the tokens", (unsigned long long)run->args->tokens);
    const size_t tokens =
        bn_tokenizer_max_tokens(run->tokenizer, prompt_bytes) + (size_t)run->args->tokens;
    run->tokens = malloc(tokens * sizeof *run->tokens);
    run->logits = malloc((size_t)run->vocab * sizeof *run->logits);
    run->order = malloc((size_t)run->vocab * sizeof *run->order);
    if (!run->tokens || !run->logits || !run->order)
        return bn_error_nomem("the tokens", tokens * sizeof *run->tokens);
    return BN_OK;
}

static bn_status run_program(void *arg)
{
    const struct args *args = arg;
    bn_tool_model model = {0};
    bn_text prompt = {0};
    bn_status status = BN_OK;
    run_state run = {
        .args = args,
        .sampler = {args->greedy ? 0 : args->temperature, args->top_k, args->top_p,
                    bn_rng_of(args->seed, 0)},
        .out = {.stop = args->stop},
    };
    BN_TRY_OUT(check_args(args));
    BN_TRY_OUT(read_prompt(args, &prompt));
    BN_TRY_OUT(bn_tool_open_adapted(args->model, &args->where, args->adapter, &model));
    BN_TRY_OUT(bn_loaded_expect(&model.loaded, BN_KIND_TRANSFORMER));
    run.tokenizer = model.loaded.tokenizer;
    /* Ids beyond the tokenizer's, where model.vocab_size is larger, stand for
     * no text: they are never chosen. */
    run.vocab = model.loaded.model->vocab;
    BN_TRY_OUT(run_alloc(&run, prompt.size));
    if (args->int8_head)
        BN_TRY_OUT(bn_model_quantize_head(model.loaded.model));
    BN_TRY_OUT(bn_session_new(model.loaded.model, 0, &run.session));
    run.vocab = bn_tokenizer_vocab_size(run.tokenizer);
    BN_TRY_OUT(run_session(&run, &prompt));
out:
    bn_session_free(run.session);
    free(run.tokens);
    free(run.logits);
    free(run.order);
    bn_text_clear(&run.out.held);
    bn_text_clear(&prompt);
    bn_tool_close(&model);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.tokens = 200,
                        .temperature = 0.8,
                        .top_k = 40,
                        .top_p = 0.95,
                        .seed = 1337,
                        .where = BN_TOOL_WHERE_DEFAULT};
    return bn_tool_main(&program, run_program, &args, argc, argv);
}
