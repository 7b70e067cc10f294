/* text.h - growing text, lists of strings, and small helpers for messages. */
#ifndef BN_BASE_TEXT_H
#define BN_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Text that grows. Starts as {0}; `data` is NULL or NUL-terminated. A failed
 * allocation is remembered (later appends do nothing) and reported once, by
 * bn_text_take(), so that builders need no check per line. */
typedef struct bn_text {
    char *data;
    size_t size, capacity; /* bytes without, and with, the NUL */
    bool failed;
} bn_text;

void bn_text_add(bn_text *text, const char *string);
void bn_text_add_bytes(bn_text *text, const void *data, size_t size);
void bn_text_addf(bn_text *text, const char *fmt, ...) BN_PRINTF(2, 3);
void bn_text_addv(bn_text *text, const char *fmt, va_list ap) BN_PRINTF(2, 0);
/* Hands the text over ("" if nothing was added; the caller frees *out) and
 * leaves {0}; BN_FAIL if an append ran out of memory. */
bn_status bn_text_take(bn_text *text, char **out) BN_MUST_CHECK;
void bn_text_clear(bn_text *text);

/* A list of strings that it owns. Starts as {0}. */
typedef struct bn_strings {
    char **items;
    size_t count;
} bn_strings;

bn_status bn_strings_add(bn_strings *list, const char *item) BN_MUST_CHECK;
bn_status bn_strings_add_bytes(bn_strings *list, const char *item, size_t size) BN_MUST_CHECK;
bn_status bn_strings_copy(const bn_strings *from, bn_strings *to) BN_MUST_CHECK; /* *to is {0} */
bool bn_strings_equal(const bn_strings *a, const bn_strings *b);
void bn_strings_sort(bn_strings *list); /* by byte value */
void bn_strings_clear(bn_strings *list);

/* malloc'd copies; NULL when out of memory (bn_error is then set). */
char *bn_strdup(const char *string);
char *bn_format(const char *fmt, ...) BN_PRINTF(1, 2);

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b;
 * letter case and '-' against '_' do not count. */
size_t bn_edit_distance(const char *a, const char *b);

/* Keeps the nearest of the candidates offered. Starts as {.wanted = word}. */
typedef struct bn_nearest {
    const char *wanted;
    const char *best; /* NULL: nothing offered is near */
    size_t distance;
} bn_nearest;

/* Considers one candidate. Near means: at most a third of the longer word is
 * wrong; one edit is near in shorter words too. */
void bn_nearest_offer(bn_nearest *nearest, const char *candidate);

/* "512 B", "1.5 KiB", "3.2 GiB" into `buffer`, which is returned. */
enum { BN_SIZE_TEXT = 32 };
const char *bn_size_text(uint64_t bytes, char buffer[BN_SIZE_TEXT]);

/* Whole-string numbers: false if anything but one number in range is there.
 * Integers are decimal; doubles are finite and in C syntax. */
bool bn_parse_i64(const char *text, int64_t *out);
bool bn_parse_u64(const char *text, uint64_t *out);
bool bn_parse_f64(const char *text, double *out);
/* Bytes, above 0: "4096", "512M", "1.5 GiB"; the units K, M, G, T are powers of 1024. */
bool bn_parse_size(const char *text, uint64_t *bytes);

/* Shortest decimal that reads back as the same double, into `buffer`. */
enum { BN_NUMBER_TEXT = 32 };
const char *bn_number_text(double value, char buffer[BN_NUMBER_TEXT]);

#endif
