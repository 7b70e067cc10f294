/* size_text.h - the report of --dry-run as a table and as JSON. */
#ifndef BN_TRAIN_SIZE_TEXT_H
#define BN_TRAIN_SIZE_TEXT_H

#include "train/memory.h"

/* Tokens per second of the run that last finished in a folder, from its
 * summary.json; 0 if there is none. */
double bn_measured_speed(const char *output_dir);

/* `speed`: measured tokens per second, 0: unknown, no time is foretold. The
 * caller frees. */
bn_status bn_size_report_table(const bn_size_report *report, double speed,
                               char **text) BN_MUST_CHECK;
bn_status bn_size_report_json(const bn_size_report *report, double speed,
                              char **json) BN_MUST_CHECK;

#endif
