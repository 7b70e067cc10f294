/* export_job.h - one export from an open model to a verified file.
 *
 * The file is written under a temporary name beside its own, read back and
 * compared, and only then renamed: FILE is what it was, or right. */
#ifndef BN_TOOLS_EXPORT_JOB_H
#define BN_TOOLS_EXPORT_JOB_H

#include "tools/export_report.h"

typedef struct bn_export_request {
    const char *output, *producer;
    bn_export_format format;
    bool verify;
    const char *data; /* text to compare on, or NULL; see bn_sample_open() */
    /* For tests: called with the temporary name between writing and verifying. */
    void (*written)(void *arg, const char *path);
    void *arg;
} bn_export_request;

/* Exports `source`, opened with pack = false; its model is packed and its
 * matrices are rounded to the format's float type on the way. Writes the report
 * to OUTPUT.report.json too. BN_MISMATCH: file and model differ, the first
 * difference is named. After a failure OUTPUT is untouched and the temporary
 * file gone. *report need not be initialised. */
bn_status bn_export_run(const bn_export_request *request, bn_loaded *source,
                        bn_export_report *report) BN_MUST_CHECK;

#endif
