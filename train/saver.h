/* saver.h - the checkpoints of a run, on a disk that may fill up.
 *
 * A save that fails for the disk's sake (BN_IO: full, over quota, defective) is
 * a warning, training goes on, and the next save tries again; the
 * BN_SAVES_FAILED-th failure in a row and a failed last save are errors. A
 * failed save leaves nothing behind: earlier checkpoints, `latest` and `best`
 * stay as they are.
 */
#ifndef BN_TRAIN_SAVER_H
#define BN_TRAIN_SAVER_H

#include "train/observer.h"
#include "train/run_folder.h"

enum { BN_SAVES_FAILED = 3 };

typedef struct bn_saver {
    const bn_run_folder *folder;     /* borrowed, like the observer */
    const bn_run_observer *observer; /* gets notes and warnings */
    int64_t limit;                   /* training.save_total_limit */
    int64_t saved_step;              /* of the newest checkpoint in the folder; -1: none */
    int failures;                    /* saves that failed in a row */
} bn_saver;

/* Compares what the checkpoints of a run will take with what is free. `replaced`:
 * the checkpoints in the folder are not this run's and will be deleted before its
 * first. BN_IO if not even one fits; a warning if save_total_limit and two more
 * (the best one, and the one being written) do not. */
bn_status bn_saver_check_space(const bn_saver *saver, const bn_trainer *trainer,
                               bool replaced) BN_MUST_CHECK;

/* Saves the trainer's present step unless that is done, sets the marks and deletes
 * what is beyond the limit. `last`: there will be no further try. */
bn_status bn_saver_save(bn_saver *saver, bn_trainer *trainer, uint64_t metrics_bytes,
                        bool last) BN_MUST_CHECK;

/* malloc'd path of the newest checkpoint. NULL: there is none, or no memory. */
char *bn_saver_last_good(const bn_saver *saver);

#endif
