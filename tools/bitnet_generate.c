/* bitnet-generate - continues texts with a model, several at once if wanted. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/timer.h"
#include "model/kv_cache.h"
#include "model/sampler.h"
#include "model/session.h"
#include "tools/tool.h"

struct args {
    const char *model, *prompt_file, *prompts_file, *stop, *cache_type;
    bn_strings prompts, adapters;
    int64_t tokens, top_k;
    double temperature, top_p;
    uint64_t seed;
    bool greedy, int8_head, no_echo, quiet;
    bn_tool_where where;
};

static const bn_option options[] = {
    {"prompt", 'p', "TEXT", BN_OPT_LIST, offsetof(struct args, prompts),
     "text to continue; - reads it from standard input (default: a line break); several are "
     "continued at once"},
    {"prompt-file", 0, "FILE", BN_OPT_STRING, offsetof(struct args, prompt_file),
     "read the prompt from FILE"},
    {"prompts", 0, "FILE", BN_OPT_STRING, offsetof(struct args, prompts_file),
     "continue every line of FILE, all at once"},
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
    BN_TOOL_CACHE_OPTION(struct args, cache_type),
    {"no-echo", 0, NULL, BN_OPT_FLAG, offsetof(struct args, no_echo), "do not print the prompt"},
    {"quiet", 'q', NULL, BN_OPT_FLAG, offsetof(struct args, quiet), "no statistics"},
    BN_TOOL_ADAPTER_OPTION(struct args, adapters),
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
    "its last tokens. The same seed gives the same text. Of several prompts each continuation is\n"
    "the one that the prompt gets alone (but for the rounding of a float head, which --int8-head\n"
    "does not have); they are written in order at the end, each followed by a line of ---.\n"
    "Exit codes: 0 done, 1 failure, 2 usage,\n"
    "65 bad model file, 66 input missing, 69 no device, 74 I/O.\n"};

/* Output that holds back what may turn out to be the stop text. */
typedef struct stream {
    const char *stop; /* NULL: none */
    bn_text *to;      /* NULL: standard output */
    bn_text held;
    bool stopped;
} stream;

/* One prompt and its continuation. */
typedef struct text_state {
    bn_text prompt;
    int32_t *tokens; /* of both */
    int64_t count;
    float *logits;
    bn_sampler sampler;
    stream out;
    bn_text made; /* out.to of several */
} text_state;

typedef struct run_state {
    const struct args *args;
    const bn_tokenizer *tokenizer;
    bn_session *session;
    int64_t vocab;     /* of the tokenizer */
    text_state *texts; /* one per prompt */
    int64_t n;
    float *logits; /* [n, the model's vocabulary] */
    int32_t *order, *next;
    bool *live; /* goes on in the next step */
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
    if ((args->prompts.count > 0) + (args->prompt_file != NULL) + (args->prompts_file != NULL) > 1)
        return bn_error(BN_USAGE, "--prompt, --prompt-file and --prompts exclude each other");
    for (size_t i = 0; args->prompts.count > 1 && i < args->prompts.count; i++)
        if (strcmp(args->prompts.items[i], "-") == 0)
            return bn_error(BN_USAGE, "-p -: standard input is one prompt, there are %zu",
                            args->prompts.count);
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

static bn_status read_file(const char *path, bn_text *text)
{
    char *data;
    size_t size;
    BN_TRY(bn_fs_read(path, PROMPT_LIMIT, &data, &size));
    bn_text_add_bytes(text, data, size);
    free(data);
    return BN_OK;
}

/* An empty prompt becomes a line break: a model needs something to start from,
 * and text begins after one. */
static bn_status add_prompt(run_state *run, const char *data, size_t size)
{
    text_state *texts = realloc(run->texts, (size_t)(run->n + 1) * sizeof *texts);
    if (!texts)
        return bn_error_nomem("the prompts", (size_t)(run->n + 1) * sizeof *texts);
    run->texts = texts;
    const struct args *args = run->args;
    text_state *text = &texts[run->n++];
    *text = (text_state){.sampler = {args->greedy ? 0 : args->temperature, args->top_k, args->top_p,
                                     bn_rng_of(args->seed, 0)},
                         .out = {.stop = args->stop}};
    bn_text_add_bytes(&text->prompt, size ? data : "\n", size ? size : 1);
    return text->prompt.failed ? bn_error_nomem("the prompt", size) : BN_OK;
}

/* A prompt for each line; nothing follows the last line break. */
static bn_status add_lines(run_state *run, const bn_text *text)
{
    for (size_t at = 0; at < text->size;) {
        const char *end = memchr(text->data + at, '\n', text->size - at);
        const size_t size = end ? (size_t)(end - text->data) - at : text->size - at;
        BN_TRY(add_prompt(run, text->data + at, size));
        at += size + 1;
    }
    return run->n ? BN_OK
                  : bn_error(BN_BAD_DATA, "%s: expected a prompt on every line, found none",
                             run->args->prompts_file);
}

static bn_status read_prompts(run_state *run)
{
    const struct args *args = run->args;
    const char *file = args->prompts_file ? args->prompts_file : args->prompt_file;
    const bool standard_input =
        args->prompts.count == 1 && strcmp(args->prompts.items[0], "-") == 0;
    for (size_t i = 0; !standard_input && i < args->prompts.count; i++)
        BN_TRY(add_prompt(run, args->prompts.items[i], strlen(args->prompts.items[i])));
    if (run->n)
        return BN_OK;
    bn_text text = {0};
    bn_status status = standard_input ? read_standard_input(&text)
                       : file         ? read_file(file, &text)
                                      : BN_OK;
    if (status == BN_OK && text.failed)
        status = bn_error_nomem("the prompt", text.size);
    if (status == BN_OK)
        status = args->prompts_file ? add_lines(run, &text) : add_prompt(run, text.data, text.size);
    bn_text_clear(&text);
    return status;
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

static bn_status stream_write(stream *out, const char *data, size_t size)
{
    if (!out->to)
        return write_bytes(data, size);
    bn_text_add_bytes(out->to, data, size);
    return out->to->failed ? bn_error_nomem("output", size) : BN_OK;
}

static bn_status stream_add(stream *out, const void *data, size_t size)
{
    if (!out->stop)
        return stream_write(out, data, size);
    if (size == 0) /* a special token stands for no text */
        return BN_OK;
    bn_text_add_bytes(&out->held, data, size);
    if (out->held.failed)
        return bn_error_nomem("output", size);
    const char *stop = memmem(out->held.data, out->held.size, out->stop, strlen(out->stop));
    out->stopped = stop != NULL;
    const size_t ready =
        stop ? (size_t)(stop - out->held.data) : out->held.size - stop_overlap(out);
    BN_TRY(stream_write(out, out->held.data, ready));
    memmove(out->held.data, out->held.data + ready, out->held.size - ready);
    out->held.size -= ready;
    return BN_OK;
}

/* ---- generation ---- */

/* Feeds tokens[from..count-1] of text t, in pieces where they are many. */
static bn_status feed(run_state *run, int64_t t, int64_t from)
{
    text_state *text = &run->texts[t];
    bn_session_select(run->session, t);
    return bn_session_feed(run->session, text->tokens + from, text->count - from, text->logits);
}

/* The last token of every text that goes on, all in one step. One whose context
 * is full starts over with the last half of it. */
static bn_status advance(run_state *run)
{
    const int64_t capacity = bn_session_capacity(run->session);
    const int64_t half = capacity > 1 ? capacity / 2 : 1;
    for (int64_t t = 0; t < run->n; t++) {
        text_state *text = &run->texts[t];
        bn_session_select(run->session, t);
        run->live[t] = !text->out.stopped;
        run->next[t] = text->tokens[text->count - 1];
        if (run->live[t] && bn_session_position(run->session) == capacity) {
            bn_session_rewind(run->session, 0);
            BN_TRY(feed(run, t, text->count - half));
            run->live[t] = false;
        }
    }
    for (int64_t t = 0; t < run->n; t++)
        if (run->live[t])
            return bn_session_step(run->session, run->next, run->live, run->logits);
    return BN_OK;
}

/* The next token of a text, from its logits. */
static bn_status choose(run_state *run, text_state *text)
{
    int32_t token;
    size_t length;
    BN_TRY(bn_sampler_choose(&text->sampler, text->logits, run->vocab, run->order, &token));
    text->tokens[text->count++] = token;
    const unsigned char *piece = bn_tokenizer_piece(run->tokenizer, token, &length);
    return stream_add(&text->out, piece, length);
}

static bn_status generate(run_state *run)
{
    int64_t going = run->n;
    for (int64_t i = 0; i < run->args->tokens && going; i++) {
        if (i > 0)
            BN_TRY(advance(run));
        going = 0;
        for (int64_t t = 0; t < run->n; t++) {
            if (!run->texts[t].out.stopped)
                BN_TRY(choose(run, &run->texts[t]));
            going += !run->texts[t].out.stopped;
        }
    }
    for (int64_t t = 0; t < run->n; t++) {
        stream *out = &run->texts[t].out;
        if (!out->stopped)
            BN_TRY(stream_write(out, out->held.data, out->held.size));
    }
    return BN_OK;
}

static void report(const run_state *run, int64_t prompt, double prompt_s, int64_t made,
                   double made_s)
{
    fprintf(stderr, "bitnet-generate: prompt %lld tokens, %.0f tokens/s", (long long)prompt,
            (double)prompt / prompt_s);
    if (made > run->n) /* the first token comes with the prompt */
        fprintf(stderr, "; generated %lld tokens, %.0f tokens/s", (long long)made,
                (double)(made - run->n) / made_s);
    fprintf(stderr, "; KV cache %zu bytes per token\n", bn_session_token_bytes(run->session));
}

/* Encodes and feeds a prompt, or its last tokens that fit; *fed += tokens. */
static bn_status start(run_state *run, int64_t t, int64_t *fed)
{
    const int64_t capacity = bn_session_capacity(run->session);
    text_state *text = &run->texts[t];
    size_t encoded;
    BN_TRY(bn_tokenizer_encode(run->tokenizer, text->prompt.data, text->prompt.size, text->tokens,
                               &encoded));
    text->count = (int64_t)encoded;
    const int64_t n = text->count < capacity ? text->count : capacity;
    if (n < text->count && !run->args->quiet)
        fprintf(stderr, "bitnet-generate: the prompt has %lld tokens, the last %lld are read\n",
                (long long)text->count, (long long)n);
    if (!run->args->no_echo)
        BN_TRY(stream_write(&text->out, text->prompt.data, text->prompt.size));
    *fed += n;
    return feed(run, t, text->count - n);
}

static bn_status run_session(run_state *run)
{
    int64_t fed = 0, made = 0;
    const double begin = bn_seconds();
    for (int64_t t = 0; t < run->n; t++) {
        BN_TRY(start(run, t, &fed));
        made -= run->texts[t].count;
    }
    const double middle = bn_seconds();
    BN_TRY(generate(run));
    const double end = bn_seconds();
    for (int64_t t = 0; t < run->n; t++) {
        made += run->texts[t].count;
        if (run->n > 1) {
            BN_TRY(write_bytes(run->texts[t].made.data, run->texts[t].made.size));
            BN_TRY(write_bytes("\n---\n", 5));
        }
    }
    if (run->n == 1 && isatty(STDOUT_FILENO))
        BN_TRY(write_bytes("\n", 1));
    if (!run->args->quiet)
        report(run, fed, middle - begin, made, end - middle);
    return BN_OK;
}

/* `vocab`: of the model, whose rows the logits are. */
static bn_status run_alloc(run_state *run, int64_t vocab)
{
    const size_t n = (size_t)run->n, rows = n * (size_t)vocab;
    const uint64_t most = SIZE_MAX / sizeof(int32_t) - 4 * (uint64_t)PROMPT_LIMIT;
    if ((uint64_t)run->args->tokens > most)
        return bn_error_nomem("the tokens", (unsigned long long)run->args->tokens);
    run->logits = malloc(rows * sizeof *run->logits);
    run->order = malloc((size_t)vocab * sizeof *run->order);
    run->next = calloc(n, sizeof *run->next);
    run->live = calloc(n, sizeof *run->live);
    if (!run->logits || !run->order || !run->next || !run->live)
        return bn_error_nomem("the logits", rows * sizeof *run->logits);
    for (size_t t = 0; t < n; t++) {
        text_state *text = &run->texts[t];
        const size_t tokens =
            bn_tokenizer_max_tokens(run->tokenizer, text->prompt.size) + (size_t)run->args->tokens;
        text->logits = run->logits + t * (size_t)vocab;
        text->out.to = n > 1 ? &text->made : NULL;
        text->tokens = malloc(tokens * sizeof *text->tokens);
        if (!text->tokens)
            return bn_error_nomem("the tokens", tokens * sizeof *text->tokens);
    }
    return BN_OK;
}

static void run_clear(run_state *run)
{
    for (int64_t t = 0; t < run->n; t++) {
        free(run->texts[t].tokens);
        bn_text_clear(&run->texts[t].prompt);
        bn_text_clear(&run->texts[t].out.held);
        bn_text_clear(&run->texts[t].made);
    }
    bn_session_free(run->session);
    free(run->texts);
    free(run->logits);
    free(run->order);
    free(run->next);
    free(run->live);
}

static bn_status run_program(void *arg)
{
    struct args *args = arg;
    bn_tool_model model = {0};
    bn_status status = BN_OK;
    run_state run = {.args = args};
    bn_session_options session = {0};
    BN_TRY_OUT(check_args(args));
    BN_TRY_OUT(bn_tool_cache_bits(args->cache_type, &session.cache_bits));
    BN_TRY_OUT(read_prompts(&run));
    BN_TRY_OUT(bn_tool_open_adapted(args->model, &args->where, &args->adapters, &model));
    BN_TRY_OUT(bn_loaded_expect(&model.loaded, BN_KIND_TRANSFORMER));
    run.tokenizer = model.loaded.tokenizer;
    /* Ids beyond the tokenizer's, where model.vocab_size is larger, stand for
     * no text: they are never chosen. */
    run.vocab = bn_tokenizer_vocab_size(run.tokenizer);
    BN_TRY_OUT(run_alloc(&run, model.loaded.model->vocab));
    if (args->int8_head)
        BN_TRY_OUT(bn_model_quantize_head(model.loaded.model));
    session.sequences = run.n;
    BN_TRY_OUT(bn_session_new_with(model.loaded.model, &session, &run.session));
    BN_TRY_OUT(run_session(&run));
out:
    run_clear(&run);
    bn_tool_close(&model);
    bn_strings_clear(&args->prompts);
    bn_strings_clear(&args->adapters);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.tokens = 200,
                        .temperature = 0.8,
                        .top_k = 40,
                        .top_p = 0.95,
                        .seed = 1337,
                        .cache_type = "float32",
                        .where = BN_TOOL_WHERE_DEFAULT};
    return bn_tool_main(&program, run_program, &args, argc, argv);
}
