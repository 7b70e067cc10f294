/* The reading half of c_header.h. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/pack.h"
#include "tools/c_header.h"

enum { WORD = 128, MOST_LAYERS = 4097 };

typedef struct parser {
    const char *path, *text, *at;
    bn_c_header *header;
} parser;

/* One layer's row in the file. */
typedef struct layer_row {
    long long in, out, group, stride;
    char norm[WORD], codes[WORD], scale[WORD], bias[WORD];
} layer_row;

static long long line_of(const parser *p)
{
    long long line = 1;
    for (const char *c = p->text; c < p->at; c++)
        line += *c == '\n';
    return line;
}

static bn_status expected(const parser *p, const char *what)
{
    const char *at = p->at + strspn(p->at, " \n");
    return bn_error(BN_BAD_DATA, "%s: line %lld: expected %s, found \"%.*s\"", p->path, line_of(p),
                    what, (int)strcspn(at, "\n") < 40 ? (int)strcspn(at, "\n") : 40, at);
}

static void skip_blanks(parser *p)
{
    p->at += strspn(p->at, " \n");
}

static bn_status take(parser *p, const char *words)
{
    skip_blanks(p);
    if (strncmp(p->at, words, strlen(words)) != 0)
        return expected(p, words);
    p->at += strlen(words);
    return BN_OK;
}

static bn_status take_word(parser *p, char word[WORD])
{
    size_t n = 0;
    skip_blanks(p);
    while (n + 1 < WORD && (isalnum((unsigned char)p->at[n]) || p->at[n] == '_'))
        n++;
    if (n == 0)
        return expected(p, "a name");
    memcpy(word, p->at, n);
    word[n] = '\0';
    p->at += n;
    return BN_OK;
}

static bn_status take_int(parser *p, long long low, long long high, long long *value)
{
    char *end;
    errno = 0;
    skip_blanks(p);
    *value = strtoll(p->at, &end, 0);
    if (end == p->at || errno != 0 || *value < low || *value > high)
        return expected(p, "a whole number in range");
    p->at = end;
    return BN_OK;
}

static bn_status take_float(parser *p, float *value)
{
    char *end;
    skip_blanks(p);
    *value = strtof(p->at, &end);
    if (end == p->at || *end != 'f')
        return expected(p, "a float");
    p->at = end + 1;
    return BN_OK;
}

/* Moves behind the words, wherever they are from the start of the text. */
static bn_status find(parser *p, const char *words)
{
    const char *at = strstr(p->text, words);
    if (!at)
        return bn_error(BN_BAD_DATA, "%s: expected \"%s\" in it", p->path, words);
    p->at = at + strlen(words);
    return BN_OK;
}

/* Moves to the numbers of "static const TYPE NAME[count] = {". */
static bn_status find_array(parser *p, const char *type, const char *name, long long count)
{
    char words[2 * WORD + 64];
    snprintf(words, sizeof words, "static const %s %s[%lld] = {", type, name, count);
    return find(p, words);
}

static bn_status read_floats(parser *p, const char *name, bn_export_item *item)
{
    BN_TRY(find_array(p, "float", name, item->count));
    for (int64_t i = 0; i < item->count; i++) {
        if (i)
            BN_TRY(take(p, ","));
        BN_TRY(take_float(p, &item->data[i]));
    }
    return take(p, "};");
}

/* Fields 0, 1, 2 of a byte are codes -1, 0, 1; a row's last byte is filled up
 * with code 0. */
static bn_status read_codes(parser *p, const char *name, bn_export_item *item)
{
    const int64_t rows = item->shape[0], cols = item->shape[1], bytes = (cols + 3) / 4;
    bn_status status = BN_OK;
    int8_t *codes = malloc((size_t)(rows * cols));
    if (!codes)
        return bn_error_nomem(name, (size_t)(rows * cols));
    BN_TRY_OUT(find_array(p, "uint8_t", name, rows * bytes));
    for (int64_t i = 0; i < rows * bytes; i++) {
        long long byte;
        if (i)
            BN_TRY_OUT(take(p, ","));
        BN_TRY_OUT(take_int(p, 0, 255, &byte));
        for (int64_t k = i % bytes * 4; k < i % bytes * 4 + 4; k++, byte /= 4) {
            const int code = (int)(byte % 4) - 1;
            if (code == 2 || (k >= cols && code != 0)) {
                status =
                    expected(p, "four codes, or code 0 after the end of a row, in the byte before");
                goto out;
            }
            if (k < cols)
                codes[i / bytes * cols + k] = (int8_t)code;
        }
    }
    BN_TRY_OUT(take(p, "};"));
    bn_t2_pack(codes, rows, cols, item->codes);
out:
    free(codes);
    return status;
}

static bn_status read_row(parser *p, layer_row *row)
{
    const long long most = 1 << 20;
    char *const names[] = {row->norm, row->codes, row->scale, row->bias};
    BN_TRY(take(p, "{"));
    BN_TRY(take_int(p, 1, most, &row->in));
    BN_TRY(take(p, ","));
    BN_TRY(take_int(p, 1, most, &row->out));
    BN_TRY(take(p, ","));
    BN_TRY(take_int(p, 1, row->in, &row->group));
    BN_TRY(take(p, ","));
    BN_TRY(take_int(p, 0, row->in, &row->stride));
    for (int i = 0; i < 4; i++) {
        BN_TRY(take(p, ","));
        BN_TRY(take_word(p, names[i]));
    }
    BN_TRY(take(p, "},"));
    if (row->stride == 0 ? row->group != row->in
                         : row->stride != (row->in + row->group - 1) / row->group)
        return expected(p, "as many scales as groups in the row before");
    return BN_OK;
}

static bn_status next_item(parser *p, int layer, const char *part, const bn_export_item *shape,
                           bn_export_item **out)
{
    bn_export_item *item = &p->header->set.items[p->header->set.count++];
    *item = *shape;
    snprintf(item->name, sizeof item->name, "layers.%d.%s", layer, part);
    *out = item;
    return bn_export_item_alloc(item);
}

static bn_status read_layer(parser *p, int layer, const layer_row *row)
{
    const bn_export_item norm = {.ndim = 1, .shape = {row->in}};
    const bn_export_item bias = {.ndim = 1, .shape = {row->out}};
    const bn_export_item weight = {
        .coded = true,
        .ndim = 2,
        .shape = {row->out, row->in},
        .group_size = row->stride == 0   ? BN_PER_TENSOR
                      : row->stride == 1 ? BN_PER_ROW
                                         : row->group,
    };
    bn_export_item *item;
    BN_TRY(next_item(p, layer, "norm.weight", &norm, &item));
    BN_TRY(read_floats(p, row->norm, item));
    BN_TRY(next_item(p, layer, "linear.weight", &weight, &item));
    BN_TRY(read_codes(p, row->codes, item));
    BN_TRY(read_floats(p, row->scale, item));
    BN_TRY(next_item(p, layer, "linear.bias", &bias, &item));
    return read_floats(p, row->bias, item);
}

/* "return NAME_run(NAME_layers, 2, 1e-05, NAME_relu2, ..." */
static bn_status read_call(parser *p)
{
    bn_c_header *h = p->header;
    char word[WORD], rest[2 * WORD];
    long long layers;
    char *end;
    BN_TRY(find(p, "\n    return "));
    for (;;) { /* the last one of the text is the call */
        const char *next = strstr(p->at, "\n    return ");
        if (!next)
            break;
        p->at = next + strlen("\n    return ");
    }
    BN_TRY(take_word(p, word));
    const size_t length = strlen(word);
    if (length < 5 || strcmp(word + length - 4, "_run") != 0 || length - 4 >= BN_C_HEADER_NAME)
        return expected(p, "NAME_run");
    snprintf(h->name, sizeof h->name, "%.*s", (int)length - 4, word);
    snprintf(rest, sizeof rest, "(%s_layers,", h->name);
    BN_TRY(take(p, rest));
    BN_TRY(take_int(p, 1, MOST_LAYERS, &layers));
    BN_TRY(take(p, ","));
    skip_blanks(p);
    h->eps = strtod(p->at, &end);
    if (end == p->at || !(h->eps > 0))
        return expected(p, "a positive number");
    p->at = end;
    BN_TRY(take(p, ","));
    BN_TRY(take_word(p, word));
    snprintf(rest, sizeof rest, "%s_silu", h->name);
    h->silu = strcmp(word, rest) == 0;
    h->layers = (int)layers;
    return BN_OK;
}

static bn_status read_all(parser *p)
{
    bn_c_header *h = p->header;
    char words[3 * WORD];
    BN_TRY(read_call(p));
    BN_TRY(bn_export_set_init(&h->set, 3 * h->layers));
    snprintf(words, sizeof words, "static const %s_layer %s_layers[%d] = {", h->name, h->name,
             h->layers);
    BN_TRY(find(p, words));
    const char *next = p->at;
    long long width = 0;
    for (int i = 0; i < h->layers; i++) {
        layer_row row;
        p->at = next;
        BN_TRY(read_row(p, &row));
        next = p->at;
        if (i && row.in != width)
            return expected(p, "a layer as wide as the one before it gives");
        width = row.out;
        BN_TRY(read_layer(p, i, &row));
    }
    p->at = next;
    return take(p, "};");
}

bn_status bn_c_header_parse(const char *path, const char *text, bn_c_header *out)
{
    *out = (bn_c_header){0};
    parser p = {.path = path, .text = text, .at = text, .header = out};
    bn_status status = read_all(&p);
    if (status != BN_OK)
        bn_c_header_clear(out);
    return status;
}
