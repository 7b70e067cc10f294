/* run.h - a run: from a configuration to a finished output folder.
 *
 * Opens data and folder, starts or resumes, makes steps, writes metrics lines,
 * evaluates, saves, stops on time. Says what happens through an observer;
 * prints nothing itself. What ends up in the folder: README, "A run's folder".
 */
#ifndef BN_TRAIN_RUN_H
#define BN_TRAIN_RUN_H

#include "train/observer.h"

typedef struct bn_run_options {
    const char *resume; /* NULL, "auto", a checkpoint or a folder of them */
    bool overwrite;
    bool one_batch;           /* train on the first batch only, without evaluation */
    int64_t stop_after;       /* save and stop after this step, as if interrupted; 0: never */
    const char *device;       /* for the summary; NULL: the backend's name */
    uint64_t memory_limit;    /* of a device that the run falls back on; 0: none */
    int (*interrupted)(void); /* non-zero: finish the step, save, stop; may be NULL */
    /* Called when there is something to save: from then on `interrupted` is looked
     * at. Before, a run may simply be killed. NULL: nothing is to be done. */
    bn_status (*catch_signals)(void);
    bn_run_observer observer;
    /* Called from another thread when a step takes longer than
     * training.watchdog_seconds: ends the process. NULL: nothing is watched. */
    void (*hung)(void *arg, int64_t step, double seconds);
    void *hung_arg;
} bn_run_options;

/* Runs config to its end. *summary gets the text of summary.json (the caller
 * frees; NULL unless BN_OK). BN_INTERRUPTED: stopped early, checkpoint saved
 * and named in the message. BN_FAIL: loss or gradient not finite, naming step
 * and last good checkpoint (with training.spike_rollbacks left the run goes back to it). BN_USAGE:
 * the folder is refused. BN_NO_DEVICE: the device was lost; the last checkpoint, named in the
 * message, is as it was. BN_IO: the disk is too full to start (saver.h), or saving failed
 * repeatedly. Else what trainer.h, checkpoint_io.h and run_folder.h return.
 *
 * With training.device_fallback a lost device is a warning: the run goes on from
 * its last checkpoint (or from where it started) on the CPU, the metrics are cut
 * to that step, and the summary names both devices. */
bn_status bn_run_train(const bn_config *config, bn_backend *backend, const bn_run_options *options,
                       char **summary) BN_MUST_CHECK;

#endif
