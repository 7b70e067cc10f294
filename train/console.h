/* console.h - what a training run says on stderr.
 *
 * On a terminal one line is rewritten in place: bar, step, loss, learning rate,
 * tokens per second, time left. Elsewhere one plain line per metrics line.
 * NO_COLOR turns colours off; quiet leaves only what the main itself reports.
 */
#ifndef BN_TRAIN_CONSOLE_H
#define BN_TRAIN_CONSOLE_H

#include "train/run.h"

typedef struct bn_console {
    int64_t max_steps;
    bool quiet, terminal, colour;
    bool open; /* a progress line stands unfinished */
    double started, drawn;
    int64_t first_step;                                        /* of this sitting */
    double loss;                                               /* smoothed, for the progress line */
    uint64_t steps, batch_bytes, upload_bytes, download_bytes; /* of this sitting's steps */
} bn_console;

bn_console bn_console_of(const bn_config *config, bool quiet);

/* The observer that writes through `console`, which must outlive it. */
bn_run_observer bn_console_observer(bn_console *console);

/* Adds a line: bytes between host and device per step, batches apart. */
void bn_console_traffic(const bn_console *console, bn_text *out);

/* Ends an unfinished progress line. */
void bn_console_finish(bn_console *console);

#endif
