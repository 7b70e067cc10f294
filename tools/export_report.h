/* export_report.h - what an export did, as JSON and in a few lines: one report
 * for all formats. */
#ifndef BN_TOOLS_EXPORT_REPORT_H
#define BN_TOOLS_EXPORT_REPORT_H

#include "tools/export_check.h"

/* How one tensor is stored. */
typedef struct bn_export_stored {
    const char *as;
    uint64_t bytes; /* scales included */
} bn_export_stored;

/* What only this format has: a line of the JSON. */
typedef struct bn_export_fact {
    const char *key;   /* NULL ends a list */
    const char *value; /* NULL: null */
} bn_export_fact;

/* What the job found out; everything is borrowed. */
typedef struct bn_export_job_facts {
    const char *source, *output; /* output: the final name */
    int64_t step;                /* of the source; -1 for a packed one */
    const char *format;
    const bn_export_fact *more;
    const char *note; /* a line for people, or NULL */
    bn_export_check check;
} bn_export_job_facts;

typedef struct bn_export_size {
    int64_t weights;       /* elements */
    uint64_t bytes_float;  /* as float32 */
    uint64_t bytes_stored; /* in the file, scales included */
} bn_export_size;

typedef struct bn_export_report {
    bn_export_check check; /* without its text */
    bn_export_size quantized, all;
    double smallest_ratio; /* of one quantized layer */
    int layers;            /* quantized ones */
    char *json, *text;     /* owned: the whole report, and a few lines for people */
} bn_export_report;

/* `written` is the finished file or folder under the name it has now,
 * stored[i] belongs to set->items[i]. */
bn_status bn_export_report_make(const bn_export_job_facts *facts, const char *written,
                                const bn_export_set *set, const bn_export_stored *stored,
                                bn_export_report *report) BN_MUST_CHECK;

/* Writes the JSON to OUTPUT.report.json. */
bn_status bn_export_report_save(const bn_export_report *report, const char *output) BN_MUST_CHECK;

/* The end of an export to one file, written as `temp`: it gets its name and the
 * report is saved, or, if `made` is an error or a signal has come, nothing stays.
 * Returns that error. */
bn_status bn_export_settle(bn_status made, const char *temp, const char *output,
                           bn_export_report *report) BN_MUST_CHECK;
void bn_export_report_clear(bn_export_report *report); /* {0} is fine */

#endif
