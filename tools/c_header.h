/* c_header.h - an MLP as a C header: what is in the file, written and read back.
 *
 * The file (docs/c-header.md) has the model's arrays and the routine of
 * c_header_runtime.h. The reader is a small parser of its own that knows the
 * text and nothing of the writer; it takes only files of this shape.
 */
#ifndef BN_TOOLS_C_HEADER_H
#define BN_TOOLS_C_HEADER_H

#include "tools/export.h"

enum { BN_C_HEADER_NAME = 64 };

typedef struct bn_c_header {
    char name[BN_C_HEADER_NAME]; /* prefix of every identifier: "digits" */
    int layers;
    bool silu; /* else relu2 */
    double eps;
    bn_export_set set; /* layers.I.norm.weight, .linear.weight, .linear.bias */
} bn_c_header;

/* The identifier for a file: "out/my-model.h" gives "my_model". */
void bn_c_header_name(const char *path, char name[BN_C_HEADER_NAME]);

/* Item number `part` of a layer: its norm, weight or bias. */
typedef enum bn_c_header_part { BN_PART_NORM, BN_PART_WEIGHT, BN_PART_BIAS } bn_c_header_part;
const bn_export_item *bn_c_header_item(const bn_c_header *header, int layer, bn_c_header_part part);

/* Columns of the widest layer's weight. */
int64_t bn_c_header_widest(const bn_c_header *header);

/* Bytes of the constants, and of the work memory, on the target. */
int64_t bn_c_header_flash(const bn_c_header *header);
int64_t bn_c_header_ram(const bn_c_header *header);

/* The text of the file; `origin`: a line on where the model is from. The caller
 * frees. */
bn_status bn_c_header_text(const bn_c_header *header, const char *origin,
                           char **text) BN_MUST_CHECK;

/* Reads a text back; `path` is for messages. BN_BAD_DATA, with what was
 * expected, if it is no such header. *out need not be initialised; on failure
 * it is cleared. */
bn_status bn_c_header_parse(const char *path, const char *text, bn_c_header *out) BN_MUST_CHECK;
void bn_c_header_clear(bn_c_header *header); /* frees the set; {0} is fine */

#endif
