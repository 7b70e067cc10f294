/* The file half of checkpoint.h. */
#include "checkpoint/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/h5file.h"
#include "checkpoint/packed_impl.h"
#include "quant/dynamic8.h"

static const char *const group_of[] = {"params/", "adam_m/", "adam_v/", "adam_m_absmax/",
                                       "adam_v_absmax/"};
enum { GROUP_PARAMS, GROUP_M, GROUP_V, GROUP_M_ABSMAX, GROUP_V_ABSMAX, GROUP_COUNT };

/* The group of the block maxima of a group of moments. */
static int absmax_of(int group)
{
    return group + (GROUP_M_ABSMAX - GROUP_M);
}

/* The attributes that are numbers, once for both directions. */
enum { FIELD_I64, FIELD_U64, FIELD_F64 };
static const struct {
    const char *name;
    int kind;
    size_t offset;
} fields[] = {
    {"step", FIELD_I64, offsetof(bn_train_state, step)},
    {"tokens_seen", FIELD_I64, offsetof(bn_train_state, tokens_seen)},
    {"best_step", FIELD_I64, offsetof(bn_train_state, best_step)},
    {"evals_since_best", FIELD_I64, offsetof(bn_train_state, evals_since_best)},
    {"seed", FIELD_U64, offsetof(bn_train_state, seed)},
    {"data_seed", FIELD_U64, offsetof(bn_train_state, data_seed)},
    {"data_epoch", FIELD_U64, offsetof(bn_train_state, data_epoch)},
    {"data_index", FIELD_U64, offsetof(bn_train_state, data_index)},
    {"metrics_bytes", FIELD_U64, offsetof(bn_train_state, metrics_bytes)},
    {"best_val_loss", FIELD_F64, offsetof(bn_train_state, best_val_loss)},
    {"elapsed_s", FIELD_F64, offsetof(bn_train_state, elapsed_s)},
};
static const struct {
    const char *name;
    size_t offset;
} texts[] = {
    {BN_ATTR_CONFIG, offsetof(bn_train_state, config_json)},
    {BN_ATTR_TOKENIZER, offsetof(bn_train_state, tokenizer)},
    {BN_ATTR_PRODUCER, offsetof(bn_train_state, producer)},
    {"device", offsetof(bn_train_state, device)},
};
enum { FIELDS = sizeof fields / sizeof *fields, TEXTS = sizeof texts / sizeof *texts };

struct bn_checkpoint {
    bn_h5_reader *file;
    bn_train_state state;
    char *texts[TEXTS];
    int first, count; /* of params/ among the file's arrays */
    bool moments;
};

/* ---- writing ---- */

static bn_status put_state(bn_h5_writer *w, const bn_train_state *state)
{
    const char *base = (const char *)state;
    BN_TRY(bn_h5_put_string(w, NULL, BN_ATTR_FORMAT, BN_CHECKPOINT_FORMAT));
    BN_TRY(bn_h5_put_i64(w, NULL, BN_ATTR_VERSION, BN_CHECKPOINT_VERSION));
    for (int i = 0; i < FIELDS; i++) {
        int64_t i64;
        uint64_t u64;
        double f64;
        switch (fields[i].kind) {
        case FIELD_I64:
            memcpy(&i64, base + fields[i].offset, sizeof i64);
            BN_TRY(bn_h5_put_i64(w, NULL, fields[i].name, i64));
            break;
        case FIELD_U64:
            memcpy(&u64, base + fields[i].offset, sizeof u64);
            BN_TRY(bn_h5_put_u64(w, NULL, fields[i].name, u64));
            break;
        default:
            memcpy(&f64, base + fields[i].offset, sizeof f64);
            BN_TRY(bn_h5_put_f64(w, NULL, fields[i].name, f64));
        }
    }
    for (int i = 0; i < TEXTS; i++) {
        const char *text;
        memcpy(&text, base + texts[i].offset, sizeof text);
        BN_TRY(bn_h5_put_string(w, NULL, texts[i].name, text));
    }
    return BN_OK;
}

static bn_status join_name(const char *group, const char *name, char *out, size_t size)
{
    if (snprintf(out, size, "%s%s", group, name) >= (int)size)
        return bn_error(BN_FAIL, "%s%.100s: the name is too long", group, name);
    return BN_OK;
}

/* Index of the first element that is not finite, -1 if there is none. */
static int64_t find_not_finite(const float *data, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(data[i]))
            return i;
    return -1;
}

static bn_tensor shape_of(const bn_checkpoint_param *p)
{
    return bn_tensor_of(BN_F32, p->ndim, p->shape);
}

/* Largest magnitudes of a parameter's moment in 8 bits. */
static bn_tensor absmax_shape(const bn_tensor *shape)
{
    return bn_tensor_1d(BN_F32, bn_ceil_div(bn_tensor_numel(shape), BN_DYNAMIC8_BLOCK));
}

static bn_status put_array(bn_h5_writer *w, int group, const bn_checkpoint_param *p,
                           bn_h5_type type, const bn_tensor *shape, const void *data)
{
    char name[BN_H5_NAME_MAX + 1];
    BN_TRY(join_name(group_of[group], p->name, name, sizeof name));
    BN_TRY(bn_tensor_check(shape, name));
    const int64_t bad = type == BN_H5_F32 ? find_not_finite(data, bn_tensor_numel(shape)) : -1;
    if (bad >= 0)
        return bn_error(BN_FAIL, "%s: element %lld is %g: not saved", name, (long long)bad,
                        (double)((const float *)data)[bad]);
    bn_h5_array array = {.name = name, .type = type, .ndim = shape->ndim, .data = data};
    memcpy(array.shape, shape->shape, sizeof array.shape);
    return bn_h5_put(w, &array);
}

static bn_status put_moment(bn_h5_writer *w, int group, const bn_checkpoint_param *p,
                            const float *moment, const uint8_t *codes)
{
    const bn_tensor shape = shape_of(p), blocks = absmax_shape(&shape);
    if (!moment)
        return BN_OK;
    if (!codes)
        return put_array(w, group, p, BN_H5_F32, &shape, moment);
    BN_TRY(put_array(w, group, p, BN_H5_U8, &shape, codes));
    return put_array(w, absmax_of(group), p, BN_H5_F32, &blocks, moment);
}

static bn_status put_all(bn_h5_writer *w, const bn_train_state *state,
                         const bn_checkpoint_param *params, int count,
                         const bn_checkpoint_extra *extras, int extra_count)
{
    BN_TRY(put_state(w, state));
    for (int i = 0; i < count; i++) {
        const bn_checkpoint_param *p = &params[i];
        if (p->moment2 && !p->moment1)
            return bn_error(BN_FAIL, "%s: a second moment without a first", p->name);
        const bn_tensor shape = shape_of(p);
        BN_TRY(put_array(w, GROUP_PARAMS, p, BN_H5_F32, &shape, p->value));
        BN_TRY(put_moment(w, GROUP_M, p, p->moment1, p->codes1));
        BN_TRY(put_moment(w, GROUP_V, p, p->moment2, p->codes2));
    }
    for (int i = 0; i < extra_count; i++) {
        char name[BN_H5_NAME_MAX + 1];
        BN_TRY(join_name("extra/", extras[i].name, name, sizeof name));
        const bn_h5_array array = {name, BN_H5_U8, 1, {(int64_t)extras[i].bytes}, extras[i].data};
        BN_TRY(bn_h5_put(w, &array));
    }
    return BN_OK;
}

bn_status bn_checkpoint_save(const char *path, const bn_train_state *state,
                             const bn_checkpoint_param *params, int count,
                             const bn_checkpoint_extra *extras, int extra_count)
{
    bn_h5_writer *w = NULL;
    BN_TRY(bn_h5_create(path, 0, &w));
    const bn_status status = put_all(w, state, params, count, extras, extra_count);
    if (status == BN_OK)
        return bn_h5_commit(w);
    bn_h5_abort(w);
    return status;
}

/* ---- reading ---- */

static bn_status read_state(bn_checkpoint *c)
{
    const char *path = bn_h5_path(c->file);
    char *base = (char *)&c->state;
    char *format = NULL;
    int64_t version = 0;
    BN_TRY(bn_h5_get_string(c->file, NULL, BN_ATTR_FORMAT, &format));
    const bool right = strcmp(format, BN_CHECKPOINT_FORMAT) == 0;
    const bn_status status =
        right ? BN_OK
              : bn_error(BN_BAD_DATA, "%s: format: expected \"%s\", found \"%.40s\"", path,
                         BN_CHECKPOINT_FORMAT, format);
    free(format);
    BN_TRY(status);
    BN_TRY(bn_h5_get_i64(c->file, NULL, BN_ATTR_VERSION, &version));
    if (version != BN_CHECKPOINT_VERSION)
        return bn_error(BN_BAD_DATA, "%s: format_version: expected %d, found %lld", path,
                        BN_CHECKPOINT_VERSION, (long long)version);
    for (int i = 0; i < FIELDS; i++) {
        const char *name = fields[i].name;
        int64_t i64;
        uint64_t u64;
        double f64;
        switch (fields[i].kind) {
        case FIELD_I64:
            BN_TRY(bn_h5_get_i64(c->file, NULL, name, &i64));
            memcpy(base + fields[i].offset, &i64, sizeof i64);
            break;
        case FIELD_U64:
            BN_TRY(bn_h5_get_u64(c->file, NULL, name, &u64));
            memcpy(base + fields[i].offset, &u64, sizeof u64);
            break;
        default:
            BN_TRY(bn_h5_get_f64(c->file, NULL, name, &f64));
            memcpy(base + fields[i].offset, &f64, sizeof f64);
        }
    }
    for (int i = 0; i < TEXTS; i++) {
        BN_TRY(bn_h5_get_string(c->file, NULL, texts[i].name, &c->texts[i]));
        memcpy(base + texts[i].offset, &c->texts[i], sizeof c->texts[i]);
    }
    if (c->state.step < 0 || c->state.tokens_seen < 0)
        return bn_error(BN_BAD_DATA, "%s: step, tokens_seen: expected >= 0, found %lld, %lld", path,
                        (long long)c->state.step, (long long)c->state.tokens_seen);
    return BN_OK;
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* The moments of the parameter of index i have its shape, codes their blocks' largest
 * magnitudes; a second one has a first beside it. */
static bn_status check_moments(const bn_checkpoint *c, int i, int counts[GROUP_COUNT])
{
    const bn_h5_entry *e = bn_h5_at(c->file, c->first + i), *moment;
    bool present[GROUP_COUNT] = {0};
    for (int g = GROUP_M; g <= GROUP_V; g++) {
        char name[BN_H5_NAME_MAX + 1];
        snprintf(name, sizeof name, "%s%s", group_of[g], e->name + strlen(group_of[GROUP_PARAMS]));
        present[g] = bn_h5_find(c->file, name);
        if (!present[g])
            continue;
        const bn_h5_type type = bn_h5_find(c->file, name)->type;
        BN_TRY(bn_h5_expect(c->file, name, type, e->ndim, e->shape, &moment));
        counts[g]--;
        if (type == BN_H5_U8) {
            const bn_tensor shape = bn_tensor_of(BN_F32, e->ndim, e->shape);
            const bn_tensor blocks = absmax_shape(&shape);
            BN_TRY(join_name(group_of[absmax_of(g)], e->name + strlen(group_of[GROUP_PARAMS]), name,
                             sizeof name));
            BN_TRY(bn_h5_expect(c->file, name, BN_H5_F32, 1, blocks.shape, &moment));
            counts[absmax_of(g)]--;
        }
    }
    return present[GROUP_M] || !present[GROUP_V]
               ? BN_OK
               : bn_error(BN_BAD_DATA, "%s: %s: expected a first moment beside the second",
                          bn_h5_path(c->file), e->name);
}

/* Every array belongs to a group of the schema, every moment to a parameter. */
static bn_status check_arrays(bn_checkpoint *c)
{
    const char *path = bn_h5_path(c->file);
    int counts[GROUP_COUNT] = {0};
    c->first = -1;
    for (int i = 0; i < bn_h5_count(c->file); i++) {
        const bn_h5_entry *e = bn_h5_at(c->file, i);
        int g = 0;
        while (g < GROUP_COUNT && !starts_with(e->name, group_of[g]))
            g++;
        if (g < GROUP_COUNT)
            counts[g]++;
        else if (!starts_with(e->name, "extra/"))
            return bn_error(BN_BAD_DATA, "%s: %s: expected params/, adam_m/, adam_v/ or extra/",
                            path, e->name);
        if (g == GROUP_PARAMS && c->first < 0)
            c->first = i;
        const bool moment = g == GROUP_M || g == GROUP_V;
        const bn_h5_type type = g < GROUP_COUNT ? BN_H5_F32 : BN_H5_U8;
        if (e->type != type && !(moment && e->type == BN_H5_U8))
            return bn_error(BN_BAD_DATA, "%s: %s: expected %s, found %s", path, e->name,
                            bn_h5_type_name(type), bn_h5_type_name(e->type));
    }
    c->count = counts[GROUP_PARAMS];
    c->moments = counts[GROUP_M] > 0;
    if (c->count == 0)
        return bn_error(BN_BAD_DATA, "%s: expected parameters, found none", path);
    for (int i = 0; i < c->count; i++)
        BN_TRY(check_moments(c, i, counts));
    int lost = 0;
    for (int g = GROUP_M; g < GROUP_COUNT; g++)
        lost += counts[g];
    return lost == 0 ? BN_OK
                     : bn_error(BN_BAD_DATA, "%s: %d moments belong to no parameter", path, lost);
}

bn_status bn_checkpoint_open(const char *path, bn_checkpoint **out)
{
    bn_status status;
    *out = NULL;
    bn_checkpoint *c = calloc(1, sizeof *c);
    if (!c)
        return bn_error_nomem("a checkpoint", sizeof *c);
    BN_TRY_OUT(bn_h5_open(path, &c->file));
    BN_TRY_OUT(read_state(c));
    BN_TRY_OUT(check_arrays(c));
    *out = c;
    return BN_OK;
out:
    bn_checkpoint_close(c);
    return status;
}

void bn_checkpoint_close(bn_checkpoint *c)
{
    if (!c)
        return;
    bn_h5_close(c->file);
    for (int i = 0; i < TEXTS; i++)
        free(c->texts[i]);
    free(c);
}

const bn_train_state *bn_checkpoint_state(const bn_checkpoint *c)
{
    return &c->state;
}

bool bn_checkpoint_has_moments(const bn_checkpoint *c)
{
    return c->moments;
}

int bn_checkpoint_count(const bn_checkpoint *c)
{
    return c->count;
}

void bn_checkpoint_describe(const bn_checkpoint *c, int i, bn_checkpoint_param *out)
{
    const bn_h5_entry *e = bn_h5_at(c->file, c->first + i);
    *out = (bn_checkpoint_param){.name = e->name + strlen(group_of[GROUP_PARAMS]), .ndim = e->ndim};
    memcpy(out->shape, e->shape, sizeof out->shape);
}

static bn_status load_array(bn_checkpoint *c, int group, const bn_checkpoint_param *p,
                            bn_h5_type type, const bn_tensor *shape, void *data)
{
    char name[BN_H5_NAME_MAX + 1];
    const bn_h5_entry *e;
    BN_TRY(join_name(group_of[group], p->name, name, sizeof name));
    if (group != GROUP_PARAMS && !bn_h5_find(c->file, name)) {
        memset(data, 0, (size_t)bn_tensor_numel(shape) * bn_h5_type_size(type));
        return BN_OK;
    }
    BN_TRY(bn_h5_expect(c->file, name, type, shape->ndim, shape->shape, &e));
    BN_TRY(bn_h5_read(c->file, e, data));
    if (type != BN_H5_F32)
        return BN_OK;
    const int64_t bad = find_not_finite(data, (int64_t)(e->bytes / sizeof(float)));
    if (bad >= 0)
        return bn_error(BN_BAD_DATA, "%s: %s: element %lld: expected finite, found %g",
                        bn_h5_path(c->file), name, (long long)bad,
                        (double)((const float *)data)[bad]);
    return BN_OK;
}

static bn_status load_moment(bn_checkpoint *c, int group, const bn_checkpoint_param *p,
                             float *moment, uint8_t *codes)
{
    const bn_tensor shape = shape_of(p), blocks = absmax_shape(&shape);
    if (!moment)
        return BN_OK;
    if (!codes)
        return load_array(c, group, p, BN_H5_F32, &shape, moment);
    if (c->state.step == 0) { /* zeros, in whatever form */
        memset(codes, 0, (size_t)bn_tensor_numel(&shape));
        memset(moment, 0, bn_tensor_bytes(&blocks));
        return BN_OK;
    }
    BN_TRY(load_array(c, group, p, BN_H5_U8, &shape, codes));
    return load_array(c, absmax_of(group), p, BN_H5_F32, &blocks, moment);
}

bn_status bn_checkpoint_expect(const bn_checkpoint *c, const bn_checkpoint_param *p)
{
    char name[BN_H5_NAME_MAX + 1];
    const bn_h5_entry *e;
    BN_TRY(join_name(group_of[GROUP_PARAMS], p->name, name, sizeof name));
    return bn_h5_expect(c->file, name, BN_H5_F32, p->ndim, p->shape, &e);
}

bn_status bn_checkpoint_load_one(bn_checkpoint *c, const bn_checkpoint_param *p)
{
    const bn_tensor shape = shape_of(p);
    if (p->value)
        BN_TRY(load_array(c, GROUP_PARAMS, p, BN_H5_F32, &shape, p->value));
    BN_TRY(load_moment(c, GROUP_M, p, p->moment1, p->codes1));
    return load_moment(c, GROUP_V, p, p->moment2, p->codes2);
}

bn_status bn_checkpoint_load(bn_checkpoint *c, const bn_checkpoint_param *params, int count)
{
    for (int i = 0; i < count; i++)
        BN_TRY(bn_checkpoint_load_one(c, &params[i]));
    /* All names were found and the model's are distinct, so a larger count in
     * the file means parameters that the model does not have. */
    if (c->count == count)
        return BN_OK;
    for (int i = 0;; i++) {
        bn_checkpoint_param p;
        bn_checkpoint_describe(c, i, &p);
        int k = 0;
        while (k < count && strcmp(params[k].name, p.name) != 0)
            k++;
        if (k == count)
            return bn_error(BN_BAD_DATA, "%s: params/%s: the model has no such parameter",
                            bn_h5_path(c->file), p.name);
    }
}

bn_status bn_checkpoint_get_extra(bn_checkpoint *c, const char *name, size_t limit, void **data,
                                  size_t *bytes)
{
    char full[BN_H5_NAME_MAX + 1];
    *data = NULL;
    *bytes = 0;
    BN_TRY(join_name("extra/", name, full, sizeof full));
    const bn_h5_entry *e = bn_h5_find(c->file, full);
    if (!e)
        return BN_OK;
    if (e->bytes > limit)
        return bn_error(BN_BAD_DATA, "%s: %s: expected at most %zu bytes, found %zu",
                        bn_h5_path(c->file), full, limit, e->bytes);
    void *copy = malloc(e->bytes);
    if (!copy)
        return bn_error_nomem(full, e->bytes);
    const bn_status status = bn_h5_read(c->file, e, copy);
    if (status != BN_OK) {
        free(copy);
        return status;
    }
    *data = copy;
    *bytes = e->bytes;
    return BN_OK;
}

bn_status bn_checkpoint_verify(const char *path)
{
    bn_checkpoint *c = NULL;
    BN_TRY(bn_checkpoint_open(path, &c));
    const bn_status status = bn_h5_verify(c->file);
    bn_checkpoint_close(c);
    return status;
}

bn_status bn_model_file_kind(const char *path, bn_model_file *kind)
{
    bn_h5_reader *r = NULL;
    char *format = NULL;
    BN_TRY(bn_h5_open(path, &r));
    bn_status status = bn_h5_get_string(r, NULL, BN_ATTR_FORMAT, &format);
    if (status == BN_OK) {
        if (strcmp(format, BN_CHECKPOINT_FORMAT) == 0)
            *kind = BN_MODEL_FILE_CHECKPOINT;
        else if (strcmp(format, BN_PACKED_FORMAT) == 0)
            *kind = BN_MODEL_FILE_PACKED;
        else
            status = bn_error(BN_BAD_DATA, "%s: format: expected \"%s\" or \"%s\", found \"%.40s\"",
                              path, BN_CHECKPOINT_FORMAT, BN_PACKED_FORMAT, format);
    }
    free(format);
    bn_h5_close(r);
    return status;
}
