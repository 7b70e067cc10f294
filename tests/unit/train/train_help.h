/* train_help.h - what the trainer's tests share: a text, a small configuration,
 * an output folder. */
#ifndef BN_TESTS_TRAIN_HELP_H
#define BN_TESTS_TRAIN_HELP_H

#include "cmocka_all.h"
#include "train/run.h"

/* Writes `bytes` of made-up, learnable text to `path`. */
void help_write_text(const char *path, int bytes);

/* hidden 32, 1 layer, 2 heads, seq_len 16, batch 2, 20 steps, evaluation every
 * 8, lines every 4, no periodic checkpoints, text in "text.txt" (made if
 * missing), output in `out`, then the settings given, NULL at the end. */
void help_config(bn_config *config, const char *out, ...);

/* Removes a folder and the files in it. */
void help_remove(const char *folder);

/* Whole file; the caller frees. */
char *help_read(const char *path);

/* "DIR/NAME" in a static buffer, good until the next call but three. */
const char *help_path(const char *dir, const char *name);

/* Number in a JSON object's text; NaN for null, fails if missing. */
double help_number(const char *json, const char *key);

/* A hash over values and moments of all parameters of a checkpoint. */
uint64_t help_checkpoint_hash(const char *path);

/* Runs one configuration to its end and its twin, which names another folder,
 * stopped after `stop` steps and resumed; the last checkpoints, of step `steps`,
 * must be equal. */
void help_stop_and_resume(const bn_config *straight, const bn_config *stopped, int64_t stop,
                          int64_t steps);

/* `backend` new with all defaults; runs config to its end. */
bn_status help_run(const bn_config *config, const bn_run_options *options, char **summary);

#endif
