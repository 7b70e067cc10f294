#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/pack.h"
#include "tools/c_header.h"
#include "tools/c_header_text.h"

void bn_c_header_name(const char *path, char name[BN_C_HEADER_NAME])
{
    const char *slash = strrchr(path, '/'), *from = slash ? slash + 1 : path;
    const char *dot = strrchr(from, '.');
    size_t n = 0, length = dot && dot > from ? (size_t)(dot - from) : strlen(from);
    if (length == 0 || isdigit((unsigned char)*from))
        name[n++] = 'm';
    for (size_t i = 0; i < length && n + 1 < BN_C_HEADER_NAME; i++)
        name[n++] = isalnum((unsigned char)from[i]) ? from[i] : '_';
    name[n] = '\0';
}

const bn_export_item *bn_c_header_item(const bn_c_header *header, int layer, bn_c_header_part part)
{
    static const char *const suffix[] = {"norm.weight", "linear.weight", "linear.bias"};
    char name[64];
    snprintf(name, sizeof name, "layers.%d.%s", layer, suffix[part]);
    for (int i = 0; i < header->set.count; i++)
        if (strcmp(header->set.items[i].name, name) == 0)
            return &header->set.items[i];
    return NULL;
}

int64_t bn_c_header_widest(const bn_c_header *header)
{
    int64_t widest = 0;
    for (int i = 0; i < header->layers; i++) {
        const int64_t in = bn_c_header_item(header, i, BN_PART_WEIGHT)->shape[1];
        widest = in > widest ? in : widest;
    }
    return widest;
}

int64_t bn_c_header_flash(const bn_c_header *header)
{
    int64_t bytes = 0;
    for (int i = 0; i < header->set.count; i++) {
        const bn_export_item *item = &header->set.items[i];
        bytes += 4 * item->count;
        bytes += item->coded ? item->shape[0] * bn_t2_row_bytes(item->shape[1]) : 0;
    }
    return bytes;
}

int64_t bn_c_header_ram(const bn_c_header *header)
{
    const int64_t n = bn_c_header_widest(header);
    return 4 * n + (n + 3) / 4 * 4; /* floats and bytes, as sizeof rounds them */
}

/* ---- text ---- */

/* The section of a text that begins with the line "---- NAME ----", without
 * that line; "" if there is none. */
static void find_section(const char *text, const char *name, const char **from, size_t *size)
{
    char mark[64];
    snprintf(mark, sizeof mark, "/* ---- %s ---- */\n", name);
    const char *at = strstr(text, mark);
    *from = at ? at + strlen(mark) : "";
    const char *end = strstr(*from, "/* ---- ");
    *size = end ? (size_t)(end - *from) : strlen(*from);
}

/* "digits" as "DIGITS", for macros. */
static const char *upper_of(const bn_c_header *h, char upper[BN_C_HEADER_NAME])
{
    for (size_t i = 0; i < BN_C_HEADER_NAME; i++)
        upper[i] = (char)toupper((unsigned char)h->name[i]);
    return upper;
}

/* Text with our prefixes replaced by the model's name. */
static void add_renamed(bn_text *out, const char *from, size_t size, const bn_c_header *h)
{
    static const char *const prefixes[] = {"bn_mcu_", "bn_", "BN_"};
    char upper[BN_C_HEADER_NAME];
    const char *names[] = {h->name, h->name, upper_of(h, upper)};
    for (size_t i = 0; i < size;) {
        const bool inside = i > 0 && (isalnum((unsigned char)from[i - 1]) || from[i - 1] == '_');
        int k = inside ? 3 : 0;
        while (k < 3 && strncmp(from + i, prefixes[k], strlen(prefixes[k])) != 0)
            k++;
        if (k < 3)
            bn_text_addf(out, "%s_", names[k]);
        else
            bn_text_add_bytes(out, from + i, 1);
        i += k < 3 ? strlen(prefixes[k]) : 1;
    }
}

static void add_section(bn_text *out, const char *section, const bn_c_header *h)
{
    const char *from;
    size_t size;
    find_section(bn_c_header_runtime, section, &from, &size);
    add_renamed(out, from, size, h);
}

/* A float literal that reads back as the same float. */
static void add_float(bn_text *out, float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)value);
    bn_text_addf(out, "%s%sf", text, strpbrk(text, ".e") ? "" : ".0");
}

static void add_floats(bn_text *out, const char *name, int layer, const char *part,
                       const bn_export_item *item)
{
    bn_text_addf(out, "static const float %s_%s_%d[%lld] = {", name, part, layer,
                 (long long)item->count);
    for (int64_t i = 0; i < item->count; i++) {
        bn_text_add(out, i % 6 ? ", " : i ? ",\n    " : "\n    ");
        add_float(out, item->data[i]);
    }
    bn_text_add(out, "\n};\n");
}

static void add_codes(bn_text *out, const char *name, int layer, const bn_export_item *item)
{
    const int64_t bytes = item->shape[0] * bn_t2_row_bytes(item->shape[1]);
    bn_text_addf(out, "static const uint8_t %s_codes_%d[%lld] = {", name, layer, (long long)bytes);
    for (int64_t i = 0; i < bytes; i++)
        bn_text_addf(out, "%s0x%02x", i % 16 ? ", " : i ? ",\n    " : "\n    ", item->codes[i]);
    bn_text_add(out, "\n};\n");
}

static void add_arrays(bn_text *out, const bn_c_header *h)
{
    for (int i = 0; i < h->layers; i++) {
        add_floats(out, h->name, i, "norm", bn_c_header_item(h, i, BN_PART_NORM));
        add_codes(out, h->name, i, bn_c_header_item(h, i, BN_PART_WEIGHT));
        add_floats(out, h->name, i, "scale", bn_c_header_item(h, i, BN_PART_WEIGHT));
        add_floats(out, h->name, i, "bias", bn_c_header_item(h, i, BN_PART_BIAS));
    }
}

static void add_layers(bn_text *out, const bn_c_header *h)
{
    const char *n = h->name;
    bn_text_addf(out, "static const %s_layer %s_layers[%d] = {\n", n, n, h->layers);
    for (int i = 0; i < h->layers; i++) {
        const bn_export_item *w = bn_c_header_item(h, i, BN_PART_WEIGHT);
        const long long in = w->shape[1], out_size = w->shape[0];
        const long long stride = w->group_size == BN_PER_TENSOR ? 0 : w->count / w->shape[0];
        bn_text_addf(out,
                     "    {%lld, %lld, %lld, %lld, %s_norm_%d, %s_codes_%d, %s_scale_%d, "
                     "%s_bias_%d},\n",
                     in, out_size, w->group_size > 0 ? (long long)w->group_size : in, stride, n, i,
                     n, i, n, i, n, i);
    }
    bn_text_add(out, "};\n\n");
}

static void add_comment(bn_text *out, const bn_c_header *h, const char *origin)
{
    char upper[BN_C_HEADER_NAME];
    const char *n = h->name, *N = upper_of(h, upper);
    bn_text_addf(out,
                 "/* %s - a ternary MLP that sorts numbers into classes.\n *\n * %s\n *\n"
                 " * In one C or C++ file, before this is included:\n"
                 " *     #define %s_IMPLEMENTATION\n"
                 " * Then:\n"
                 " *     static %s_work work;\n"
                 " *     float logits[%s_CLASSES];\n"
                 " *     int32_t found = %s_classify(&work, input, logits);\n *\n",
                 n, origin, N, n, N, n);
    bn_text_addf(out,
                 " * Arrays (flash): %lld bytes; work memory (RAM): %lld bytes, and the logits.\n"
                 " * Compile with -ffp-contract=off or -std=c99 for the framework's bits. */\n",
                 (long long)bn_c_header_flash(h), (long long)bn_c_header_ram(h));
}

/* What a user calls. */
static void add_interface(bn_text *out, const bn_c_header *h)
{
    char upper[BN_C_HEADER_NAME];
    const char *n = h->name, *N = upper_of(h, upper);
    const long long widest = bn_c_header_widest(h);
    const bn_export_item *first = bn_c_header_item(h, 0, BN_PART_WEIGHT);
    const bn_export_item *last = bn_c_header_item(h, h->layers - 1, BN_PART_WEIGHT);
    bn_text_addf(out,
                 "#ifndef %s_H\n#define %s_H\n\n#include <stdint.h>\n\n"
                 "#define %s_INPUTS %lld\n#define %s_CLASSES %lld\n\n",
                 N, N, N, (long long)first->shape[1], N, (long long)last->shape[0]);
    bn_text_addf(out,
                 "/* What a call writes to: the caller's, one per thread. */\n"
                 "typedef struct %s_work {\n    float x[%lld];\n    int8_t codes[%lld];\n"
                 "} %s_work;\n\n",
                 n, widest, widest, n);
    bn_text_addf(out,
                 "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
                 "/* The class of input[%s_INPUTS], from 0: the one with the largest of\n"
                 " * logits[%s_CLASSES], which are filled. */\n"
                 "int32_t %s_classify(%s_work *work, const float *input, float *logits);\n\n"
                 "#ifdef __cplusplus\n}\n#endif\n#endif\n\n",
                 N, N, n, n);
}

static void add_implementation(bn_text *out, const bn_c_header *h)
{
    char upper[BN_C_HEADER_NAME], eps[BN_NUMBER_TEXT];
    const char *n = h->name, *N = upper_of(h, upper), *activation = h->silu ? "silu" : "relu2";
    bn_text_addf(out, "#ifdef %s_IMPLEMENTATION\n#undef %s_IMPLEMENTATION\n\n", N, N);
    add_section(out, "routine", h);
    if (h->silu)
        add_renamed(out, bn_c_header_mathf, strlen(bn_c_header_mathf), h);
    add_section(out, activation, h);
    add_arrays(out, h);
    bn_text_add(out, "\n");
    add_layers(out, h);
    bn_text_addf(
        out,
        "int32_t %s_classify(%s_work *work, const float *input, float *logits)\n{\n"
        "    return %s_run(%s_layers, %d, %s, %s_%s, input, logits, work->x, work->codes);\n"
        "}\n\n#endif\n",
        n, n, n, n, h->layers, bn_number_text(h->eps, eps), n, activation);
}

bn_status bn_c_header_text(const bn_c_header *header, const char *origin, char **text)
{
    bn_text out = {0};
    add_comment(&out, header, origin);
    add_interface(&out, header);
    add_implementation(&out, header);
    return bn_text_take(&out, text);
}

void bn_c_header_clear(bn_c_header *header)
{
    bn_export_set_clear(&header->set);
    *header = (bn_c_header){0};
}
