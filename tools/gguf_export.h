/* gguf_export.h - one export from an open model to a verified GGUF file for
 * llama.cpp.
 *
 * The file is written under a temporary name, read back and compared with the
 * model, number by number; the source computes with the numbers as stored; only
 * then the file is renamed. */
#ifndef BN_TOOLS_GGUF_EXPORT_H
#define BN_TOOLS_GGUF_EXPORT_H

#include "tools/export_report.h"
#include "tools/gguf_tensors.h"

typedef struct bn_gguf_export_request {
    const char *output, *producer;
    bn_gguf_layout layout;
    bool verify;
    bool force;       /* write what llama.cpp computes differently too */
    const char *data; /* text to compare on, or NULL; see bn_sample_open() */
    /* For tests: called with the temporary name between writing and verifying. */
    void (*written)(void *arg, const char *path);
    void *arg;
} bn_gguf_export_request;

/* Exports `source`, opened with pack = false; its model is packed and rounded
 * to what is stored on the way. Writes the report to OUTPUT.report.json too.
 * BN_USAGE: the layout cannot hold this model, or llama.cpp does not compute
 * its function (unless forced), with the reason. BN_MISMATCH: the file is not
 * the model. After a failure OUTPUT is untouched and the temporary file gone. */
bn_status bn_gguf_export_run(const bn_gguf_export_request *request, bn_loaded *source,
                             bn_export_report *report) BN_MUST_CHECK;

#endif
