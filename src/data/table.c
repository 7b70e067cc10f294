#include "data/table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/rng.h"

enum { ORDER_KEY = 0x726f7773, STREAM_EPOCH = 0x65706f63 };

struct bn_table {
    char *name;
    int64_t features, classes, rows, capacity;
    float *x; /* [rows, features] */
    int32_t *labels;
};

/* ---- reading ---- */

typedef struct reader {
    bn_table *table;
    const char *path;
    long long line;
    float *fields; /* of one line: features and label */
} reader;

static const char *skip_blanks(const char *at)
{
    return at + strspn(at, " \t\r");
}

/* Moves *at behind one number and its separator. */
static bn_status read_number(const reader *r, const char **at, int64_t column, float *value)
{
    char *end;
    errno = 0;
    *value = strtof(*at, &end);
    if (end == *at || !isfinite(*value) || !strchr(" \t\r,;", *end))
        return bn_error(BN_BAD_DATA, "%s: line %lld, field %lld: expected a number, found \"%.*s\"",
                        r->path, r->line, (long long)column + 1, (int)strcspn(*at, " \t\r,;"), *at);
    *at = skip_blanks(end);
    if (**at == ',' || **at == ';') {
        *at = skip_blanks(*at + 1);
        if (!**at)
            return bn_error(BN_BAD_DATA, "%s: line %lld: ends in a separator", r->path, r->line);
    }
    return BN_OK;
}

static bn_status grow(bn_table *t)
{
    if (t->rows < t->capacity)
        return BN_OK;
    const int64_t capacity = t->capacity ? 2 * t->capacity : 256;
    const size_t bytes = (size_t)capacity * (size_t)t->features * sizeof *t->x;
    float *x = realloc(t->x, bytes);
    if (!x)
        return bn_error_nomem("a table", bytes);
    t->x = x;
    int32_t *labels = realloc(t->labels, (size_t)capacity * sizeof *labels);
    if (!labels)
        return bn_error_nomem("a table's classes", (size_t)capacity * sizeof *labels);
    t->labels = labels;
    t->capacity = capacity;
    return BN_OK;
}

static bn_status read_row(reader *r, const char *at)
{
    bn_table *t = r->table;
    const int64_t columns = t->features + 1;
    int64_t found = 0;
    for (; *at && found < columns; found++)
        BN_TRY(read_number(r, &at, found, &r->fields[found]));
    if (found < columns || *at)
        return bn_error(BN_BAD_DATA,
                        "%s: line %lld: expected %lld features and a class, found %s fields",
                        r->path, r->line, (long long)t->features, *at ? "more" : "fewer");
    const float label = r->fields[t->features];
    if (!(label >= 0 && label < (float)t->classes && label == floorf(label)))
        return bn_error(BN_BAD_DATA,
                        "%s: line %lld: the class, its last field, is %g: expected a whole number "
                        "from 0 to %lld",
                        r->path, r->line, (double)label, (long long)t->classes - 1);
    BN_TRY(grow(t));
    memcpy(t->x + t->rows * t->features, r->fields, (size_t)t->features * sizeof *t->x);
    t->labels[t->rows++] = (int32_t)label;
    return BN_OK;
}

/* Column names, that is: not even the first field is a number. */
static bool is_header(const char *line)
{
    char *end;
    return strtof(line, &end), end == line;
}

static bn_status read_lines(reader *r, char *text, size_t size)
{
    bool first = true;
    if (memchr(text, '\0', size))
        return bn_error(BN_BAD_DATA, "%s: expected a table as text, found a zero byte", r->path);
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        r->line++;
        const char *at = skip_blanks(line);
        if (!*at || *at == '#')
            continue;
        if (!first || !is_header(at))
            BN_TRY(read_row(r, at));
        first = false;
    }
    return r->table->rows > 0
               ? BN_OK
               : bn_error(BN_BAD_DATA, "%s: expected labelled examples, found none", r->path);
}

bn_status bn_table_open(const char *path, int64_t features, int64_t classes, bn_table **out)
{
    bn_status status = BN_OK;
    char *text = NULL;
    size_t size;
    reader r = {.path = path};
    *out = NULL;
    bn_table *t = calloc(1, sizeof *t);
    if (!t)
        return bn_error_nomem("a table", sizeof *t);
    t->features = features;
    t->classes = classes;
    r.table = t;
    BN_TRY_OUT(bn_fs_read(path, (size_t)1 << 34, &text, &size));
    if (!(t->name = bn_strdup(path)) ||
        !(r.fields = malloc(((size_t)features + 1) * sizeof *r.fields))) {
        status = bn_error_nomem("a line of a table", ((size_t)features + 1) * sizeof *r.fields);
        goto out;
    }
    BN_TRY_OUT(read_lines(&r, text, size));
out:
    free(text);
    free(r.fields);
    if (status != BN_OK)
        bn_table_free(t);
    else
        *out = t;
    return status;
}

void bn_table_free(bn_table *table)
{
    if (!table)
        return;
    free(table->name);
    free(table->x);
    free(table->labels);
    free(table);
}

int64_t bn_table_rows(const bn_table *table)
{
    return table->rows;
}

const char *bn_table_name(const bn_table *table)
{
    return table->name;
}

const float *bn_table_features(const bn_table *table, int64_t row)
{
    return table->x + row * table->features;
}

int32_t bn_table_label(const bn_table *table, int64_t row)
{
    return table->labels[row];
}

/* ---- spans and batches ---- */

bn_rows bn_table_all(const bn_table *table)
{
    return (bn_rows){table, 0, table->rows};
}

bn_status bn_table_split(const bn_table *table, double fraction, bn_rows *train,
                         bn_rows *validation)
{
    const int64_t held = (int64_t)((double)table->rows * fraction);
    *train = (bn_rows){table, 0, table->rows - held};
    *validation = (bn_rows){table, table->rows - held, held};
    return train->count > 0 ? BN_OK
                            : bn_error(BN_BAD_DATA, "%s: its %lld examples leave none to train on",
                                       table->name, (long long)table->rows);
}

static void copy_row(bn_rows rows, int64_t index, float *x, int32_t *label)
{
    const bn_table *t = rows.table;
    const int64_t row =
        (int64_t)bn_permute((uint64_t)(rows.start + index), (uint64_t)t->rows, ORDER_KEY);
    memcpy(x, bn_table_features(t, row), (size_t)t->features * sizeof *x);
    *label = t->labels[row];
}

void bn_row_batcher_next(bn_row_batcher *batcher, int64_t batch, float *x, int32_t *labels)
{
    bn_batcher_state *state = &batcher->state;
    const uint64_t count = (uint64_t)batcher->rows.count;
    const int64_t features = batcher->rows.table->features;
    for (int64_t i = 0; i < batch; i++) {
        if (state->index >= count) {
            state->epoch++;
            state->index = 0;
        }
        const uint64_t key = bn_rng_key(bn_rng_key(state->seed, STREAM_EPOCH), state->epoch);
        copy_row(batcher->rows, (int64_t)bn_permute(state->index++, count, key), x + i * features,
                 &labels[i]);
    }
}

int64_t bn_rows_copy(bn_rows rows, int64_t from, int64_t batch, float *x, int32_t *labels)
{
    const int64_t features = rows.table->features;
    const int64_t left = rows.count - from, filled = left < batch ? left : batch;
    for (int64_t i = 0; i < filled; i++)
        copy_row(rows, from + i, x + i * features, &labels[i]);
    memset(x + filled * features, 0, (size_t)((batch - filled) * features) * sizeof *x);
    for (int64_t i = filled; i < batch; i++)
        labels[i] = BN_LABEL_IGNORE;
    return filled;
}
