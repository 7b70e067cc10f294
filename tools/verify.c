#include "tools/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/signals.h"
#include "checkpoint/h5file.h"
#include "quant/pack.h"

/* ---- contents: the independent decoder ---- */

/* One tensor of the file with what it should hold. */
typedef struct check {
    bn_h5_reader *file;
    const bn_export_item *item;
    bn_encoding encoding;
} check;

static bn_status differs(const check *c, const char *what, long long expected, long long found)
{
    return bn_error(BN_MISMATCH, "%s: %s: %s is %lld, expected %lld", bn_h5_path(c->file),
                    c->item->name, what, found, expected);
}

/* The elements of array `name`, which must have this type and bytes per row. */
static bn_status read_array(const check *c, const char *name, bn_h5_type type, int ndim,
                            const int64_t *shape, void **data)
{
    const bn_h5_entry *entry;
    BN_TRY(bn_h5_expect(c->file, name, type, ndim, shape, &entry));
    if (!(*data = malloc(entry->bytes ? entry->bytes : 1)))
        return bn_error_nomem(name, entry->bytes);
    bn_status status = bn_h5_read(c->file, entry, *data);
    if (status != BN_OK) {
        free(*data);
        *data = NULL;
    }
    return status;
}

static bn_status check_attributes(const check *c)
{
    const bn_export_item *item = c->item;
    const char *expected = bn_encoding_name(c->encoding);
    char *encoding = NULL;
    BN_TRY(bn_h5_get_string(c->file, item->name, "encoding", &encoding));
    const bool same = strcmp(encoding, expected) == 0;
    if (!same)
        bn_error(BN_MISMATCH, "%s: %s: encoding is '%s', expected '%s'", bn_h5_path(c->file),
                 item->name, encoding, expected);
    free(encoding);
    if (!same)
        return BN_MISMATCH;
    if (!item->coded)
        return BN_OK;
    int64_t shape[BN_MAX_DIMS], group;
    int ndim;
    BN_TRY(bn_h5_get_i64s(c->file, item->name, "shape", BN_MAX_DIMS, shape, &ndim));
    if (ndim != 2)
        return differs(c, "rank", 2, ndim);
    for (int d = 0; d < 2; d++)
        if (shape[d] != item->shape[d])
            return differs(c, d ? "number of columns" : "number of rows", item->shape[d], shape[d]);
    BN_TRY(bn_h5_get_i64(c->file, item->name, "group_size", &group));
    return group == item->group_size ? BN_OK : differs(c, "group_size", item->group_size, group);
}

/* Bit fields as docs/packed-format.md describes them. */
typedef struct field_form {
    int bits, step, largest;
} field_form;

static const field_form forms[BN_ENC_COUNT] = {
    [BN_ENC_BINARY1] = {1, 2, 1}, [BN_ENC_INT2] = {2, 2, 3},   [BN_ENC_INT3] = {3, 1, 3},
    [BN_ENC_INT4] = {4, 1, 7},    [BN_ENC_INT8] = {8, 1, 127},
};

/* Code number k of a row of bytes; what no code is where the byte is not valid. */
static int decode(bn_encoding encoding, const uint8_t *row, int64_t k)
{
    const field_form *form = &forms[encoding];
    static const int power[] = {1, 3, 9, 27, 81};
    if (encoding == BN_ENC_BASE3X5)
        return row[k / 5] < 243 ? row[k / 5] / power[k % 5] % 3 - 1 : 2;
    if (encoding == BN_ENC_TERNARY2)
        return (row[k / 4] >> (k % 4 * 2)) % 4 - 1;
    int value = 0;
    for (int bit = 0; bit < form->bits; bit++)
        value += (row[(k * form->bits + bit) / 8] >> ((k * form->bits + bit) % 8) & 1) << bit;
    return form->step * value - form->largest;
}

static bn_status check_codes(const check *c)
{
    const bn_export_item *item = c->item;
    const int64_t out = item->shape[0], in = item->shape[1];
    const int per_byte = c->encoding == BN_ENC_BASE3X5 ? 5 : 4, bits = forms[c->encoding].bits;
    const int64_t bytes = bits ? (in * bits + 7) / 8 : (in + per_byte - 1) / per_byte;
    const int64_t places = bits ? in : bytes * per_byte;
    bn_status status = BN_OK;
    void *data;
    BN_TRY(read_array(c, item->name, BN_H5_U8, 2, (const int64_t[]){out, bytes}, &data));
    for (int64_t r = 0; r < out && status == BN_OK; r++) {
        const uint8_t *row = (const uint8_t *)data + r * bytes;
        const uint8_t *ours = item->codes + r * bn_grid_row_bytes(item->grid, in);
        for (int64_t k = 0; k < places && status == BN_OK; k++) {
            const int expected = k < in ? bn_code_get(bn_grid_dtype(item->grid), ours, k) : 0;
            const int found = decode(c->encoding, row, k);
            if (found != expected)
                status = bn_error(
                    BN_MISMATCH, "%s: %s: code at row %lld, column %lld is %d, expected %d",
                    bn_h5_path(c->file), item->name, (long long)r, (long long)k, found, expected);
        }
    }
    free(data);
    return status;
}

/* IEEE half by its definition. */
static double decode_half(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
                   : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                  : ldexp(mantissa, -24);
    return bits & 0x8000 ? -value : value;
}

static double decode_bfloat(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return (double)value;
}

/* Element i of the stored floats, and how far from the exact one it may be:
 * half a unit in the last place. */
static double stored_float(bn_encoding encoding, const void *data, int64_t i, double exact,
                           double *slack)
{
    switch (encoding) {
    case BN_ENC_FLOAT16:
        *slack = fmax(ldexp(fabs(exact), -11), ldexp(1, -25));
        return decode_half(((const uint16_t *)data)[i]);
    case BN_ENC_BFLOAT16:
        *slack = fmax(ldexp(fabs(exact), -8), ldexp(1, -134));
        return decode_bfloat(((const uint16_t *)data)[i]);
    default:
        *slack = 0;
        return (double)((const float *)data)[i];
    }
}

static bn_status check_floats(const check *c, const char *name, int ndim, const int64_t *shape)
{
    const bn_export_item *item = c->item;
    const bn_encoding encoding = item->coded ? BN_ENC_FLOAT32 : c->encoding;
    const bn_h5_type type = encoding == BN_ENC_FLOAT16    ? BN_H5_F16
                            : encoding == BN_ENC_BFLOAT16 ? BN_H5_U16
                                                          : BN_H5_F32;
    bn_status status = BN_OK;
    void *data;
    BN_TRY(read_array(c, name, type, ndim, shape, &data));
    for (int64_t i = 0; i < item->count && status == BN_OK; i++) {
        double slack, expected = (double)item->data[i];
        double found = stored_float(encoding, data, i, expected, &slack);
        if (!(fabs(found - expected) <= slack))
            status = bn_error(BN_MISMATCH, "%s: %s: element %lld is %.9g, expected %.9g",
                              bn_h5_path(c->file), name, (long long)i, found, expected);
    }
    free(data);
    return status;
}

static bn_status check_item(const check *c)
{
    const bn_export_item *item = c->item;
    BN_TRY(check_attributes(c));
    if (!item->coded)
        return check_floats(c, item->name, item->ndim, item->shape);
    BN_TRY(check_codes(c));
    char scale[sizeof item->name + 8];
    snprintf(scale, sizeof scale, "%s_scale", item->name);
    if (item->group_size == BN_PER_TENSOR)
        return check_floats(c, scale, 1, (const int64_t[]){1});
    const int64_t shape[] = {item->shape[0], item->count / item->shape[0]};
    return check_floats(c, scale, 2, shape);
}

static bn_status check_text(bn_h5_reader *file, const char *name, const char *expected)
{
    char *found = NULL;
    BN_TRY(bn_h5_get_string(file, NULL, name, &found));
    const bool same = strcmp(found, expected) == 0;
    free(found);
    return same ? BN_OK
                : bn_error(BN_MISMATCH, "%s: attribute %s is not what was written",
                           bn_h5_path(file), name);
}

static bn_status check_file(bn_h5_reader *file, const bn_packed_info *info,
                            const bn_export_set *set, const bn_export_format *format)
{
    int arrays = 0;
    BN_TRY(check_text(file, "format", "bitnet-packed"));
    BN_TRY(check_text(file, "config_json", info->config_json));
    const bool json = info->tokenizer[0] == '{';
    BN_TRY(check_text(file, json ? "tokenizer_json" : "tokenizer", info->tokenizer));
    for (int i = 0; i < set->count; i++) {
        const bn_export_item *item = &set->items[i];
        const check c = {file, item, bn_export_encoding(item, format)};
        BN_TRY(bn_signals_poll());
        BN_TRY(check_item(&c));
        arrays += item->coded ? 2 : 1;
    }
    if (bn_h5_count(file) != arrays)
        return bn_error(BN_MISMATCH, "%s: %d arrays, expected %d", bn_h5_path(file),
                        bn_h5_count(file), arrays);
    return BN_OK;
}

bn_status bn_verify_contents(const char *path, const bn_packed_info *info, const bn_export_set *set,
                             const bn_export_format *format)
{
    bn_h5_reader *file = NULL;
    bn_status status = bn_h5_open(path, &file);
    if (status == BN_OK)
        status = check_file(file, info, set, format);
    bn_h5_close(file);
    return status == BN_BAD_DATA || status == BN_NO_INPUT ? BN_MISMATCH : status;
}

/* ---- probes ---- */

typedef struct probe_run {
    bn_probe *probe;
    float *values;     /* room for the largest product */
    bn_tape_hook hook; /* the caller's, or NULL */
    void *arg;
    bn_status status;
} probe_run;

static bool is_product(const bn_tape *tape, int node)
{
    return bn_tape_node_at(tape, node)->op == BN_OP_BITLINEAR;
}

static void hash_product(void *arg, const bn_tape *tape, int node, bool backward)
{
    probe_run *run = arg;
    bn_sha256 sha;
    if (run->hook)
        run->hook(run->arg, tape, node, backward);
    if (backward || run->status != BN_OK || !is_product(tape, node))
        return;
    const bn_tensor *y = bn_tape_tensor(tape, bn_tape_node_at(tape, node)->out[0]);
    const int64_t n = bn_tensor_numel(y);
    run->status = bn_backend_get_f32(bn_tape_backend(tape), y, run->values, n);
    bn_sha256_init(&sha);
    bn_sha256_add(&sha, run->values, (size_t)n * sizeof *run->values);
    bn_sha256_end(&sha, run->probe->digests[run->probe->products++]);
}

/* Memory for the results of a planned tape. */
static bn_status probe_alloc(const bn_tape *tape, bn_value logits, probe_run *run)
{
    bn_probe *probe = run->probe;
    int64_t products = 0, most = 1;
    for (int i = 0; i < bn_tape_length(tape); i++)
        if (is_product(tape, i)) {
            const int64_t n =
                bn_tensor_numel(bn_tape_tensor(tape, bn_tape_node_at(tape, i)->out[0]));
            most = n > most ? n : most;
            products++;
        }
    probe->count = bn_tensor_numel(bn_tape_tensor(tape, logits));
    probe->digests = calloc((size_t)products + 1, sizeof *probe->digests);
    probe->logits = malloc((size_t)probe->count * sizeof *probe->logits);
    run->values = malloc((size_t)most * sizeof *run->values);
    if (!probe->digests || !probe->logits || !run->values)
        return bn_error_nomem("a probe", (size_t)probe->count * sizeof *probe->logits);
    return BN_OK;
}

bn_status bn_probe_run(const bn_model *model, const void *ids, int64_t time, bn_probe *out)
{
    return bn_probe_watch(model, ids, time, NULL, NULL, out);
}

bn_status bn_probe_watch(const bn_model *model, const void *ids, int64_t time, bn_tape_hook hook,
                         void *arg, bn_probe *out)
{
    bn_backend *be = model->backend;
    bn_status status = BN_OK;
    bn_buffer tokens = {0}, arena = {0};
    bn_tape *tape = NULL;
    probe_run run = {.probe = out, .hook = hook, .arg = arg};
    const bn_run at = {0};
    bn_tensor shape = bn_model_input(model, 1, time);
    *out = (bn_probe){0};
    BN_TRY_OUT(be->alloc(be, bn_tensor_bytes(&shape), &tokens));
    shape = bn_tensor_at(shape, &tokens, 0);
    BN_TRY_OUT(bn_tape_new(be, &tape));
    bn_graph graph = {.tape = tape};
    bn_tape_no_grad_push(tape);
    bn_value logits = bn_model_logits(model, &graph, bn_tape_input(tape, &shape));
    bn_tape_retain(tape, logits);
    bn_tape_no_grad_pop(tape);
    BN_TRY_OUT(bn_tape_plan(tape, BN_NO_VALUE));
    BN_TRY_OUT(probe_alloc(tape, logits, &run));
    BN_TRY_OUT(be->alloc(be, bn_tape_memory_of(tape).arena, &arena));
    BN_TRY_OUT(bn_tape_bind(tape, &arena));
    BN_TRY_OUT(bn_model_put_input(model, &shape, ids));
    bn_tape_set_hook(tape, hash_product, &run);
    BN_TRY_OUT(bn_tape_forward(tape, &at));
    BN_TRY_OUT(run.status);
    BN_TRY_OUT(bn_backend_get_f32(be, bn_tape_tensor(tape, logits), out->logits, out->count));
out:
    bn_tape_free(tape);
    be->release(be, &arena);
    be->release(be, &tokens);
    free(run.values);
    if (status != BN_OK)
        bn_probe_clear(out);
    return status;
}

void bn_probe_clear(bn_probe *probe)
{
    free(probe->digests);
    free(probe->logits);
    *probe = (bn_probe){0};
}

double bn_probe_logit_difference(const bn_probe *a, const bn_probe *b, bool relative)
{
    double difference = 0, size = 0;
    if (a->count != b->count)
        return (double)INFINITY;
    for (int64_t i = 0; i < a->count; i++) {
        const double d = fabs((double)a->logits[i] - (double)b->logits[i]);
        if (isnan(d))
            return d;
        difference = fmax(difference, d);
        size = fmax(size, fabs((double)a->logits[i]));
    }
    return relative && difference > 0 ? difference / size : difference;
}

int bn_probe_differing_products(const bn_probe *a, const bn_probe *b, int *first)
{
    int differing = 0;
    *first = -1;
    if (a->products != b->products)
        return -1;
    for (int i = 0; i < a->products; i++)
        if (memcmp(a->digests[i], b->digests[i], BN_SHA256_BYTES) != 0 && differing++ == 0)
            *first = i;
    return differing;
}
