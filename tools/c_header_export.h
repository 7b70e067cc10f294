/* c_header_export.h - one export from an open MLP to a verified C header.
 *
 * The file is written under a temporary name and read back by a parser that
 * knows only its text; its numbers are compared one by one, all else byte by
 * byte, and the routine that it contains is run on them: every integer product
 * must have the bits of the model's. Only then the file is renamed. */
#ifndef BN_TOOLS_C_HEADER_EXPORT_H
#define BN_TOOLS_C_HEADER_EXPORT_H

#include "tools/c_header.h"
#include "tools/export_report.h"

typedef struct bn_c_header_request {
    const char *output, *producer;
    bool verify;
    const char *data; /* table to compare on, or NULL; see bn_sample_open() */
    /* For tests: called with the temporary name between writing and verifying. */
    void (*written)(void *arg, const char *path);
    void *arg;
} bn_c_header_request;

/* Exports `source`, an MLP opened with pack = false; it is packed on the way.
 * Writes the report to OUTPUT.report.json too. BN_USAGE: a layer has no integer
 * product, with its name. BN_MISMATCH: the file is not the model. After a
 * failure OUTPUT is untouched and the temporary file gone. */
bn_status bn_c_header_run(const bn_c_header_request *request, bn_loaded *source,
                          bn_export_report *report) BN_MUST_CHECK;

#endif
