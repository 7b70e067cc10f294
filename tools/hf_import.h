/* hf_import.h - a Hugging Face folder as a model file of this project.
 *
 * Shadow or float weights become a training checkpoint of step 0 with moments
 * of zero; a model that exists as codes only becomes a packed file: it runs, is
 * inspected and exported, but there is nothing in it to train. Which one it is
 * follows from config.json (interop/hf_config.h).
 */
#ifndef BN_TOOLS_HF_IMPORT_H
#define BN_TOOLS_HF_IMPORT_H

#include "base/text.h"

typedef struct bn_import_request {
    const char *dir, *output, *producer;
    /* A tokenizer's name, or its path, as for bn_tokenizer_open(); NULL:
     * DIR/tokenizer.json or DIR/tokenizer.model, and without those "byte" if the vocabulary has 256
     * entries. */
    const char *tokenizer;
    const bn_strings *set; /* configuration settings on top; may be NULL */
} bn_import_request;

/* What was made of it. */
typedef struct bn_import_report {
    bool packed; /* a packed file, not a checkpoint */
    char *json;  /* owned: the whole report */
    char *text;  /* owned: a few lines for people */
} bn_import_report;

/* BN_NO_INPUT: config.json or a file of tensors is missing. BN_BAD_DATA: not a
 * model that can be taken over without computing something else, with the
 * reason. BN_USAGE: a tokenizer is needed. OUTPUT is written as a whole or not
 * at all. *report need not be initialised; on failure it is cleared. */
bn_status bn_import_run(const bn_import_request *request, bn_import_report *report) BN_MUST_CHECK;
void bn_import_report_clear(bn_import_report *report); /* {0} is fine */

#endif
