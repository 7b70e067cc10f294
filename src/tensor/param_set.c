#include "tensor/param_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

void bn_param_set_init(bn_param_set *set, bn_dtype real)
{
    *set = (bn_param_set){.real = real};
}

void bn_param_set_clear(bn_param_set *set)
{
    for (int i = 0; i < set->count; i++)
        free(set->items[i]);
    free(set->items);
    free(set->slots);
    *set = (bn_param_set){.real = set->real};
}

/* ---- names ----
 * slots[] has capacity * SPREAD places; a name is at its hash or behind it, up to the
 * first free place. */
enum { SPREAD = 2 };

/* Where the name is, or the free place where it belongs. */
static int *slot_of(const bn_param_set *set, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    const uint32_t mask = (uint32_t)set->capacity * SPREAD - 1;
    uint32_t at = hash & mask;
    while (set->slots[at] >= 0 && strcmp(set->items[set->slots[at]]->name, name) != 0)
        at = (at + 1) & mask;
    return &set->slots[at];
}

static bn_status grow(bn_param_set *set)
{
    const int capacity = set->capacity ? 2 * set->capacity : 64; /* a power of two */
    const size_t places = (size_t)capacity * SPREAD;
    bn_param **items = realloc(set->items, (size_t)capacity * sizeof *items);
    if (items)
        set->items = items;
    int *slots = malloc(places * sizeof *slots);
    if (!items || !slots) {
        free(slots);
        return bn_error_nomem("the parameter list", places * (sizeof *items + sizeof *slots));
    }
    free(set->slots);
    set->slots = slots;
    set->capacity = capacity;
    memset(slots, -1, places * sizeof *slots);
    for (int i = 0; i < set->count; i++)
        *slot_of(set, set->items[i]->name) = i;
    return BN_OK;
}

bn_status bn_param_set_add(bn_param_set *set, const char *name, bn_param_kind kind, int ndim,
                           const int64_t *shape, bn_param **out)
{
    if (strlen(name) >= BN_PARAM_NAME_MAX)
        return bn_error(BN_FAIL, "parameter name '%.60s...' is longer than %d bytes", name,
                        BN_PARAM_NAME_MAX - 1);
    if (bn_param_set_find(set, name))
        return bn_error(BN_FAIL, "parameter '%s' is defined twice", name);
    if (set->count == set->capacity)
        BN_TRY(grow(set));
    bn_param *p = calloc(1, sizeof *p);
    if (!p)
        return bn_error_nomem("a parameter", sizeof *p);
    strcpy(p->name, name);
    p->kind = kind;
    p->decay = ndim >= 2 && kind != BN_PARAM_SCALE;
    p->trainable = true;
    p->value = bn_tensor_of(set->real, ndim, shape);
    bn_status status = bn_tensor_check(&p->value, name);
    if (status != BN_OK) {
        free(p);
        return status;
    }
    p->grad = p->value;
    *slot_of(set, name) = set->count;
    set->items[set->count++] = p;
    *out = p;
    return BN_OK;
}

bn_status bn_param_set_layout(bn_param_set *set)
{
    enum { HIDDEN, DECAYING, CONSTANT, FROZEN, PARTS };
    size_t at = 0, ends[PARTS];
    for (int part = 0; part < PARTS; part++) {
        for (int i = 0; i < set->count; i++) {
            bn_param *p = set->items[i];
            if (part != (!p->trainable ? FROZEN
                         : p->hidden   ? HIDDEN
                         : p->decay    ? DECAYING
                                       : CONSTANT))
                continue;
            p->offset = at;
            if (!bn_add_size(at, bn_tensor_bytes(&p->value), &at) || at > SIZE_MAX / 2)
                return bn_error(BN_FAIL, "the parameters need more memory than can be addressed");
            at = bn_align_up(at, BN_ALIGN);
        }
        ends[part] = at;
    }
    set->hidden_bytes = ends[HIDDEN];
    set->decay_bytes = ends[DECAYING];
    set->train_bytes = ends[CONSTANT];
    set->block_bytes = ends[FROZEN];
    return BN_OK;
}

void bn_param_set_bind(bn_param_set *set, const bn_buffer *values, const bn_buffer *grads)
{
    for (int i = 0; i < set->count; i++) {
        bn_param *p = set->items[i];
        p->value = bn_tensor_at(p->value, values, p->offset);
        p->grad = bn_tensor_at(p->grad, p->trainable ? grads : NULL, p->offset);
    }
}

bn_param *bn_param_set_find(const bn_param_set *set, const char *name)
{
    const int at = set->count ? *slot_of(set, name) : -1;
    return at < 0 ? NULL : set->items[at];
}

int64_t bn_param_set_numel(const bn_param_set *set)
{
    int64_t n = 0;
    for (int i = 0; i < set->count; i++)
        n += bn_tensor_numel(&set->items[i]->value);
    return n;
}

int64_t bn_param_set_trainable(const bn_param_set *set)
{
    int64_t n = 0;
    for (int i = 0; i < set->count; i++)
        if (set->items[i]->trainable)
            n += bn_tensor_numel(&set->items[i]->value);
    return n;
}

bn_tensor bn_param_set_flat(const bn_param_set *set, const bn_buffer *buffer)
{
    int64_t n = (int64_t)(set->train_bytes / bn_dtype_size(set->real));
    return bn_tensor_at(bn_tensor_1d(set->real, n), buffer, 0);
}
