/* run_folder.h - the output folder of a run: who may write into it.
 *
 * A folder that holds anything is refused unless the run goes on from it or
 * may overwrite it; overwriting removes the files a run writes and nothing
 * else, and that only when the new run is ready to start. While a run lasts it
 * holds a lock (flock on OUT/.lock), so two runs never write into one folder; a
 * killed run leaves no lock behind.
 */
#ifndef BN_TRAIN_RUN_FOLDER_H
#define BN_TRAIN_RUN_FOLDER_H

#include <stdbool.h>

#include "base/status.h"

typedef enum bn_folder_mode {
    BN_FOLDER_NEW,       /* must be missing or empty */
    BN_FOLDER_RESUME,    /* whatever is there is kept */
    BN_FOLDER_OVERWRITE, /* whatever is there is kept until bn_run_folder_remove_run() */
} bn_folder_mode;

typedef struct bn_run_folder {
    char *path;
    int lock; /* descriptor of OUT/.lock */
} bn_run_folder;

/* Makes the folder if need be and locks it. BN_USAGE: not empty; BN_FAIL:
 * another run holds the lock; BN_IO. On failure *out is closed. */
bn_status bn_run_folder_open(const char *path, bn_folder_mode mode,
                             bn_run_folder *out) BN_MUST_CHECK;
void bn_run_folder_close(bn_run_folder *folder);

/* Removes an earlier run's files; anything else in the folder stays. */
bn_status bn_run_folder_remove_run(const bn_run_folder *folder) BN_MUST_CHECK;

/* malloc'd path of a file in it; NULL with bn_error set. */
char *bn_run_folder_file(const bn_run_folder *folder, const char *name);

/* Writes OUT/name as a whole. */
bn_status bn_run_folder_write(const bn_run_folder *folder, const char *name,
                              const char *text) BN_MUST_CHECK;

#endif
