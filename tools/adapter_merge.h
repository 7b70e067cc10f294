/* adapter_merge.h - an adapter worked into its base: a model of its own again.
 *
 * Each adapted layer's weight becomes Q(W) + scale * B A, in float; the others' stay
 * Q(W). The file is a checkpoint of step 0; what runs it or exports it
 * quantizes these weights anew, which loses a part of what the adapter added: the
 * three losses say how much.
 */
#ifndef BN_TOOLS_ADAPTER_MERGE_H
#define BN_TOOLS_ADAPTER_MERGE_H

#include "tools/tool.h"

typedef struct bn_merge_losses {
    double base, adapted, merged; /* nats per token, or per example of an MLP */
} bn_merge_losses;

/* Writes the merged model of what bn_tool_open_base() and bn_adapter_open() opened,
 * and measures all three on `data`, a text or an MLP's table; NULL: what the base's
 * own run held out. BN_NO_INPUT: it is not there. The file is written as a whole or
 * not at all. */
bn_status bn_adapter_merge(bn_tool_model *model, const char *path, const char *data,
                           bn_merge_losses *losses) BN_MUST_CHECK;

#endif
