/* encode_text.h - a long text to tokens on all cores, a piece at a time. */
#ifndef BN_DATA_ENCODE_TEXT_H
#define BN_DATA_ENCODE_TEXT_H

#include "base/threads.h"
#include "data/tokenizer.h"

/* Receives ids in order; `done` bytes of the text are behind them. */
typedef bn_status (*bn_ids_sink)(void *arg, const int32_t *ids, size_t count, size_t done);

/* The ids of text[0..bytes-1], the same as bn_tokenizer_encode() makes, for
 * any number of threads. Memory is bounded whatever the length (a mapped file,
 * say), unless a single word is that long. */
bn_status bn_encode_text(const bn_tokenizer *tokenizer, bn_threads *threads, const void *text,
                         size_t bytes, bn_ids_sink sink, void *arg) BN_MUST_CHECK;

#endif
