/* hf_export.h - one export from an open model to a verified Hugging Face
 * folder.
 *
 * The folder is made under a temporary name, imported again (tools/hf_import.h)
 * and compared with the model, number by number and product by product, and
 * only then renamed. */
#ifndef BN_TOOLS_HF_EXPORT_H
#define BN_TOOLS_HF_EXPORT_H

#include "tools/export_report.h"
#include "tools/hf_folder.h"

typedef struct bn_hf_export_request {
    const char *output, *producer; /* output: a folder that is missing or empty */
    bn_hf_form form;
    bn_encoding floats; /* of matrices that are not quantized */
    bool verify;
    const char *data; /* text to compare on, or NULL; see bn_sample_open() */
    /* For tests: called with the temporary name between writing and verifying. */
    void (*written)(void *arg, const char *path);
    void *arg;
} bn_hf_export_request;

/* Exports `source`, opened with pack = false; its model is packed and rounded
 * to what is stored on the way. Writes the report to OUTPUT.report.json too.
 * BN_USAGE: this form cannot hold this model, with the reason. BN_MISMATCH: the
 * folder does not import as the model. After a failure nothing new is left. */
bn_status bn_hf_export_run(const bn_hf_export_request *request, bn_loaded *source,
                           bn_export_report *report) BN_MUST_CHECK;

#endif
