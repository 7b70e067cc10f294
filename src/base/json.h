/* json.h - strict reading on top of cJSON, and a small writer.
 *
 * Reading rejects all that is not JSON by RFC 8259 and says where (line:column)
 * and why; it also rejects a key given twice in one object, numbers too large
 * for a double, and nesting deeper than 500.
 * Writing prints doubles so that they read back bit for bit.
 */
#ifndef BN_BASE_JSON_H
#define BN_BASE_JSON_H

#include <cjson/cJSON.h>

#include "base/text.h"

/* The value in `text` (`size` bytes); the caller does cJSON_Delete(*out).
 * `name` stands in front of messages. BN_BAD_DATA on anything wrong; callers
 * that read a config pass that on as BN_BAD_CONFIG. */
bn_status bn_json_parse(const char *name, const char *text, size_t size, cJSON **out) BN_MUST_CHECK;

/* The same for a file of at most `limit` bytes. BN_NO_INPUT, BN_BAD_DATA. */
bn_status bn_json_read(const char *path, size_t limit, cJSON **out) BN_MUST_CHECK;

/* Writer. `key` is NULL in arrays and at the top. With indent 0 everything
 * stands on one line (JSON lines); otherwise objects and arrays are broken
 * into lines. Starts as {.indent = 2} or {0}. */
typedef struct bn_json {
    bn_text text;
    int indent;
    int depth;
    bool filled;   /* the open object or array has a member */
    int flat_from; /* depth from which all stands on one line; 0: nowhere */
} bn_json;

void bn_json_object(bn_json *json, const char *key);
void bn_json_object_end(bn_json *json);
void bn_json_array(bn_json *json, const char *key);
/* An array on one line whatever the indent. */
void bn_json_array_flat(bn_json *json, const char *key);
void bn_json_array_end(bn_json *json);
void bn_json_string(bn_json *json, const char *key, const char *value); /* NULL: null */
void bn_json_int(bn_json *json, const char *key, int64_t value);
void bn_json_double(bn_json *json, const char *key, double value); /* NaN, Inf: null */
void bn_json_bool(bn_json *json, const char *key, bool value);
void bn_json_null(bn_json *json, const char *key);
/* `value` is JSON text already. */
void bn_json_raw(bn_json *json, const char *key, const char *value);
/* Ends with a newline and hands the text over; the caller frees. */
bn_status bn_json_take(bn_json *json, char **out) BN_MUST_CHECK;
void bn_json_clear(bn_json *json);

#endif
