/* hf_export_report.h - what an export to a Hugging Face folder did, as JSON and
 * in a few lines. */
#ifndef BN_TOOLS_HF_EXPORT_REPORT_H
#define BN_TOOLS_HF_EXPORT_REPORT_H

#include "tools/hf_export.h"

/* What the job found out; strings are borrowed. */
typedef struct bn_hf_export_facts {
    const char *source, *output;
    int64_t step; /* of the source; -1 for a packed one */
    bool verified;
    int64_t codes, scales, floats; /* numbers compared one by one */
    int products;                  /* integer products compared bit for bit */
    int64_t probe_tokens;
    double logit_difference; /* largest, against the source */
    double logit_relative;   /* against the source with its numbers as stored */
    double loss_before, loss_after;
    int64_t loss_tokens;
    const char *text; /* where the tokens are from */
    bool random;
} bn_hf_export_facts;

/* `dir` holds the finished folder. */
bn_status bn_hf_export_report_make(const char *dir, const bn_hf_export_facts *facts,
                                   const bn_hf_folder *folder, const bn_export_set *set,
                                   bn_hf_export_report *report) BN_MUST_CHECK;

#endif
