/* table.h - labelled examples: rows of numbers with a class, for the MLP kind.
 *
 * The text form is what numpy.savetxt and pandas write: one example per line,
 * its features and then its class, a whole number from 0, separated by commas,
 * semicolons or blanks. Empty lines and lines that start with # are passed
 * over; a first line that does not begin with a number names the columns. All
 * lines have the same number of fields (docs/classifier.md).
 *
 * A table is read whole and never changes; several threads may read it.
 */
#ifndef BN_DATA_TABLE_H
#define BN_DATA_TABLE_H

#include "data/batcher.h"

typedef struct bn_table bn_table;

/* A table of `features` numbers per row and classes 0..classes-1. BN_NO_INPUT:
 * cannot be read. BN_BAD_DATA: no example, another number of fields, a number
 * that is none or not finite, a class out of range; names file and line. */
bn_status bn_table_open(const char *path, int64_t features, int64_t classes,
                        bn_table **out) BN_MUST_CHECK;
void bn_table_free(bn_table *table); /* NULL is fine */

int64_t bn_table_rows(const bn_table *table); /* at least 1 */
const char *bn_table_name(const bn_table *table);

/* Row `row` as it stands in the file. */
const float *bn_table_features(const bn_table *table, int64_t row);
int32_t bn_table_label(const bn_table *table, int64_t row);

/* Some rows of a table, by value; the table is borrowed. Rows of a span are
 * numbered in a fixed pseudo-random order: files are often sorted by class. */
typedef struct bn_rows {
    const bn_table *table;
    int64_t start, count;
} bn_rows;

bn_rows bn_table_all(const bn_table *table);

/* Cuts off floor(rows * fraction) rows to validate with; 0 <= fraction < 1.
 * BN_BAD_DATA when nothing is left to train on. */
bn_status bn_table_split(const bn_table *table, double fraction, bn_rows *train,
                         bn_rows *validation) BN_MUST_CHECK;

/* Training batches: every epoch visits each row once, in an order of its own
 * (see batcher.h; so is the state). */
typedef struct bn_row_batcher {
    bn_rows rows;
    bn_batcher_state state;
} bn_row_batcher;

/* x [batch, features], labels [batch]: the next rows. */
void bn_row_batcher_next(bn_row_batcher *batcher, int64_t batch, float *x, int32_t *labels);

/* Rows from .. from+batch-1 of the span; past its end x is 0 and the label
 * BN_LABEL_IGNORE. Returns the number of rows there were. */
int64_t bn_rows_copy(bn_rows rows, int64_t from, int64_t batch, float *x, int32_t *labels);

#endif
