#include "train/run_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs.h"

#define LOCK_NAME ".lock"

char *bn_run_folder_file(const bn_run_folder *folder, const char *name)
{
    return bn_path_join(folder->path, name);
}

bn_status bn_run_folder_write(const bn_run_folder *folder, const char *name, const char *text)
{
    char *path = bn_run_folder_file(folder, name);
    if (!path)
        return BN_FAIL;
    bn_status status = bn_fs_write(path, text, strlen(text));
    free(path);
    return status;
}

/* Refuses a folder with anything but a lock file in it. */
static bn_status require_empty(const char *path)
{
    bn_strings names = {0};
    bool empty;
    BN_TRY(bn_fs_dir_empty(path, &empty));
    if (empty)
        return BN_OK;
    bn_status status = bn_fs_list(path, NULL, NULL, &names);
    for (size_t i = 0; status == BN_OK && i < names.count; i++)
        if (strcmp(names.items[i], LOCK_NAME) != 0)
            status = bn_error(BN_USAGE,
                              "%s: the output folder is not empty (%s): --resume auto goes on from "
                              "its checkpoint, --overwrite starts anew, --output-dir names another",
                              path, names.items[i]);
    bn_strings_clear(&names);
    return status;
}

static bn_status take_lock(bn_run_folder *folder)
{
    bn_status status = BN_OK;
    char *path = bn_run_folder_file(folder, LOCK_NAME);
    if (!path)
        return BN_FAIL;
    folder->lock = bn_fs_get_ops()->open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (folder->lock < 0)
        status = bn_error(BN_IO, "%s: cannot create: %s", path, strerror(errno));
    else if (flock(folder->lock, LOCK_EX | LOCK_NB) != 0)
        status =
            errno == EWOULDBLOCK
                ? bn_error(BN_FAIL, "%s: another run is writing into this folder", folder->path)
                : bn_error(BN_IO, "%s: cannot lock: %s", path, strerror(errno));
    free(path);
    return status;
}

bn_status bn_run_folder_remove_run(const bn_run_folder *folder)
{
    static const char *const patterns[] = {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "latest",
        "best",
        "checkpoint-*.h5",
        "checkpoint-*.h5.tmp",
        "config.json.tmp",
        "summary.json.tmp",
        "latest.tmp",
        "best.tmp",
    };
    bn_strings names = {0};
    bn_status status = bn_fs_list(folder->path, NULL, NULL, &names);
    for (size_t i = 0; status == BN_OK && i < names.count; i++) {
        bool ours = false;
        for (size_t k = 0; k < sizeof patterns / sizeof *patterns; k++)
            ours |= bn_glob_match(patterns[k], names.items[i]);
        if (!ours)
            continue;
        char *path = bn_run_folder_file(folder, names.items[i]);
        status = path ? bn_fs_remove(path) : BN_FAIL;
        free(path);
    }
    bn_strings_clear(&names);
    return status;
}

bn_status bn_run_folder_open(const char *path, bn_folder_mode mode, bn_run_folder *out)
{
    bn_status status = BN_OK;
    *out = (bn_run_folder){.path = bn_strdup(path), .lock = -1};
    if (!out->path)
        return BN_FAIL;
    if (mode == BN_FOLDER_NEW) /* before anything is made in it */
        BN_TRY_OUT(require_empty(path));
    BN_TRY_OUT(bn_fs_mkdirs(path));
    BN_TRY_OUT(take_lock(out));
    if (mode == BN_FOLDER_NEW) /* nobody has been faster */
        BN_TRY_OUT(require_empty(path));
out:
    if (status != BN_OK)
        bn_run_folder_close(out);
    return status;
}

void bn_run_folder_close(bn_run_folder *folder)
{
    if (folder->lock >= 0)
        bn_fs_get_ops()->close(folder->lock); /* also unlocks */
    free(folder->path);
    *folder = (bn_run_folder){.lock = -1};
}
