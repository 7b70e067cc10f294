/* export_report.h - what an export did, as JSON and in a few lines. */
#ifndef BN_TOOLS_EXPORT_REPORT_H
#define BN_TOOLS_EXPORT_REPORT_H

#include "base/sha256.h"
#include "tools/export.h"

/* How the file compares with its source; `done` false: not asked for. */
typedef struct bn_export_check {
    bool done;
    int64_t codes, scales, floats;  /* numbers compared one by one */
    int products;                   /* integer products compared bit for bit */
    int64_t probe_tokens;           /* on so many tokens */
    double logit_difference;        /* largest, against the source */
    double logit_relative;          /* against the source with its floats as stored */
    double loss_before, loss_after; /* nats per token */
    int64_t loss_tokens;
    char *text; /* where the tokens are from; owned */
    bool random;
} bn_export_check;

typedef struct bn_export_size {
    int64_t weights;       /* elements */
    uint64_t bytes_float;  /* as float32 */
    uint64_t bytes_stored; /* in the file, scales included */
} bn_export_size;

typedef struct bn_export_report {
    const char *source, *path; /* borrowed; path is the final name */
    int64_t step;              /* of the source; -1 for a packed one */
    bn_export_format format;
    bn_export_check check;
    char sha256[BN_SHA256_TEXT];
    uint64_t file_bytes;
    bn_export_size ternary, all;
    double smallest_ratio; /* of one ternary layer */
    int layers;            /* ternary ones */
    char *json;            /* owned: the whole report */
} bn_export_report;

/* Measures the finished file `written` and fills everything below `check`. */
bn_status bn_export_report_make(const char *written, const bn_export_set *set,
                                bn_export_report *report) BN_MUST_CHECK;
void bn_export_report_clear(bn_export_report *report); /* {0} is fine */

/* The short form for people. */
void bn_export_report_text(const bn_export_report *report, bn_text *text);

#endif
