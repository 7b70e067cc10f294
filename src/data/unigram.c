#include "data/unigram.h"

#include <stdlib.h>

#include "data/unicode.h"

void bn_unigram_clear(bn_unigram *unigram)
{
    free(unigram->scores);
    *unigram = (bn_unigram){0};
}

void bn_unigram_work_clear(bn_unigram_work *work)
{
    free(work->nodes);
    *work = (bn_unigram_work){0};
}

static bn_status reserve(bn_unigram_work *work, size_t nodes)
{
    if (nodes <= work->capacity)
        return BN_OK;
    free(work->nodes);
    work->capacity = 0;
    work->nodes = malloc(2 * nodes * sizeof *work->nodes);
    if (!work->nodes)
        return bn_error_nomem("the cutting of a long word", 2 * nodes * sizeof *work->nodes);
    work->capacity = 2 * nodes;
    return BN_OK;
}

static void offer(const bn_unigram *unigram, struct bn_unigram_node *node, size_t start,
                  double score, int32_t id)
{
    if (unigram->single)
        score = (double)(float)score;
    if (!node->reached || score > node->best)
        *node = (struct bn_unigram_node){.best = score, .start = start, .id = id, .reached = true};
}

bn_status bn_unigram_cut(const bn_unigram *unigram, const bn_vocab *vocab, bn_unigram_work *work,
                         const unsigned char *text, size_t length, size_t *count)
{
    BN_TRY(reserve(work, length + 1));
    struct bn_unigram_node *nodes = work->nodes;
    for (size_t i = 0; i <= length; i++)
        nodes[i] = (struct bn_unigram_node){0};
    for (size_t at = 0; at < length;) {
        const size_t character = bn_utf8_length(text[at]);
        bool alone = false;
        for (size_t end = at + character; end <= length && end - at <= unigram->longest;) {
            const int32_t id = bn_vocab_find(vocab, text + at, end - at);
            if (id >= 0) {
                offer(unigram, &nodes[end], at, unigram->scores[id] + nodes[at].best, id);
                alone |= end == at + character;
            }
            if (end == length)
                break;
            end += bn_utf8_length(text[end]);
        }
        if (!alone)
            offer(unigram, &nodes[at + character], at, unigram->unknown + nodes[at].best,
                  BN_UNKNOWN_PIECE);
        at += character;
    }
    *count = 0;
    for (size_t end = length; end > 0; end = nodes[end].start)
        ++*count;
    /* Nodes behind the one that is read are free: the pieces, in order, go to
     * the front after they have been turned around. */
    size_t place = length;
    for (size_t end = length; end > 0; place--) {
        const struct bn_unigram_node node = nodes[end];
        nodes[place] = node;
        end = node.start;
    }
    for (size_t i = 1; i <= *count; i++)
        nodes[i] = nodes[place + i];
    return BN_OK;
}
