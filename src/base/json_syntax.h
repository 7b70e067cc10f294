/* json_syntax.h - private: where, and why, text is not JSON (RFC 8259).
 *
 * cJSON accepts some text that is not JSON and reports the place of an error
 * a character or so off; its tree is built only from text that passed here.
 */
#ifndef BN_BASE_JSON_SYNTAX_H
#define BN_BASE_JSON_SYNTAX_H

#include <stddef.h>

/* NULL if `text` is one JSON value; else what is wrong at byte *offset. */
const char *bn_json_syntax_error(const char *text, size_t size, size_t *offset);

#endif
