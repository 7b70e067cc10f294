/* session.h - running a model token by token with a KV cache.
 *
 * A session records a few no-gradient tapes (one token, and chunks of up to
 * BN_PREFILL_ROWS tokens) over packed weights and runs them at growing
 * positions. A BitLinear gives the bits it gave in training. Where all layers
 * are BitLinear with int8 activations (the head apart, which only ever sees one
 * row), every kernel works row by row, so the logits do not depend on how the
 * tokens were cut into calls; a float product of one row may round otherwise
 * than one of many.
 *
 * One thread drives a session, and one a backend. A session only reads its model,
 * so several run on one model at the same time if each has a backend of its own
 * (bn_session_options); what they give does not depend on the others. Making and
 * freeing them is for one thread at a time.
 */
#ifndef BN_MODEL_SESSION_H
#define BN_MODEL_SESSION_H

#include "model/adapter.h"

enum { BN_PREFILL_ROWS = 256 };

typedef struct bn_session bn_session;

/* The model (with memory, packed: bn_model_pack() or BN_MODEL_PACKED) must
 * outlive the session. `positions` <= model->positions; 0 = all of them. */
bn_status bn_session_new(bn_model *model, int64_t positions, bn_session **out) BN_MUST_CHECK;
void bn_session_free(bn_session *session);

/* What a session may be besides; {0} is what bn_session_new() makes. */
typedef struct bn_session_options {
    /* Computes in place of the model's; must outlive the session. BN_USAGE unless it
     * can read the model's memory: both in the host's memory, with the same kernels. */
    bn_backend *backend;
    int64_t positions;
    /* Several sequences share nothing but the model: each has its own tokens and
     * position. bn_session_select() says which one the functions below are about (0
     * at first); bn_session_step() feeds one token to each at once. 0: 1. */
    int64_t sequences;
    int cache_bits; /* of the KV cache's elements: 8 or 4 (kv_cache.h); 0: reals */
} bn_session_options;

bn_status bn_session_new_with(bn_model *model, const bn_session_options *options,
                              bn_session **out) BN_MUST_CHECK;

/* From now on with this adapter of the model's, or with none (NULL): the graphs are
 * recorded anew, weights and cache stay. What has been fed was seen by the adapter
 * before; bn_session_rewind(s, 0) forgets it. On failure the session can only be
 * freed. A session that is made starts with what bn_adapter_use() says. */
bn_status bn_session_use(bn_session *session, bn_adapter *adapter) BN_MUST_CHECK;

void bn_session_select(bn_session *session, int64_t sequence);

int64_t bn_session_position(const bn_session *session); /* tokens fed so far */
int64_t bn_session_capacity(const bn_session *session);
void bn_session_rewind(bn_session *session, int64_t position); /* forget later ones */

/* Bytes that a token takes in the KV cache. */
size_t bn_session_token_bytes(const bn_session *session);

/* Feeds n >= 1 tokens; logits [vocab] of the last one (may be NULL).
 * BN_FAIL when the positions do not suffice. */
bn_status bn_session_feed(bn_session *session, const int32_t *ids, int64_t n,
                          float *logits) BN_MUST_CHECK;

/* Feeds ids[i] to every sequence i with live[i], in one run of the model, and
 * writes row i of logits [sequences, vocab]; the other sequences and rows stay as
 * they are. The logits are those of bn_session_feed(), but for the rounding of a
 * float head. BN_FAIL where a live sequence has no position left. */
bn_status bn_session_step(bn_session *session, const int32_t *ids, const bool *live,
                          float *logits) BN_MUST_CHECK;

#endif
