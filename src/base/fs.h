/* fs.h - the one door to the file system (HDF5 files apart).
 *
 * All that changes the disk goes through bn_fs_ops, a table of system calls
 * that a test can replace to make any of them fail. Messages name the path and
 * carry the system's text. Unless said otherwise: BN_NO_INPUT if a file to be
 * read is missing or unreadable, BN_IO for everything else the system refuses.
 */
#ifndef BN_BASE_FS_H
#define BN_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "base/text.h"

/* As the system calls of these names: -1 and errno on failure. */
typedef struct bn_fs_ops {
    int (*open)(const char *path, int flags, mode_t mode);
    ssize_t (*write)(int fd, const void *data, size_t size);
    int (*fsync)(int fd);
    int (*ftruncate)(int fd, off_t size);
    int (*close)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*mkdir)(const char *path, mode_t mode);
    int (*statvfs)(const char *path, struct statvfs *out);
} bn_fs_ops;

/* Present table. For tests only: replaces it and returns the one before; NULL
 * puts the real one back. Not thread-safe. */
const bn_fs_ops *bn_fs_get_ops(void);
const bn_fs_ops *bn_fs_set_ops(const bn_fs_ops *ops);

/* ---- asking ---- */
bool bn_fs_exists(const char *path); /* anything at all, a dangling link too */
bool bn_fs_is_dir(const char *path);
bool bn_fs_same(const char *a, const char *b); /* both exist and are one file */
bn_status bn_fs_size(const char *path, uint64_t *bytes) BN_MUST_CHECK;
/* A missing folder counts as empty; anything but a folder is BN_IO. */
bn_status bn_fs_dir_empty(const char *path, bool *empty) BN_MUST_CHECK;
/* Free bytes for this user on the disk of `path` (of its nearest existing
 * parent, if it does not exist yet). */
bn_status bn_fs_free_space(const char *path, uint64_t *bytes) BN_MUST_CHECK;
/* Sorted names in `dir` that start and end so (NULL: any), without "." and
 * "..". *out is {0}; the caller clears. */
bn_status bn_fs_list(const char *dir, const char *prefix, const char *suffix,
                     bn_strings *out) BN_MUST_CHECK;
/* Sorted paths that match a shell pattern; a path without *, ?, [ stands for
 * itself. Nothing matches: BN_NO_INPUT. *out is {0}; the caller clears. */
bn_status bn_fs_glob(const char *pattern, bn_strings *out) BN_MUST_CHECK;
/* Whether `name` matches the shell pattern (*, ?, [...]). */
bool bn_glob_match(const char *pattern, const char *name);

/* ---- paths; malloc'd, NULL with bn_error set when out of memory ---- */
char *bn_path_join(const char *dir, const char *name);
char *bn_path_parent(const char *path); /* "." if there is no '/' */

/* ---- reading ---- */
/* The whole file, NUL-terminated (the NUL not counted); more than `limit`
 * bytes is BN_BAD_DATA. The caller frees *data. `size` may be NULL. */
bn_status bn_fs_read(const char *path, size_t limit, char **data, size_t *size) BN_MUST_CHECK;

/* A regular file in memory, read-only. An empty file has size 0 and non-NULL
 * data. */
typedef struct bn_map {
    const unsigned char *data;
    size_t size;
} bn_map;
bn_status bn_map_open(const char *path, bn_map *out) BN_MUST_CHECK;
void bn_map_close(bn_map *map); /* zeroes *map; {0} is fine */
/* Takes pages of [from, to) out of memory, for one who reads from front to back;
 * returns the `from` of the next call (0 at first). The bytes can be read again. */
size_t bn_map_drop(const bn_map *map, size_t from, size_t to);

/* ---- writing ---- */
bn_status bn_fs_mkdirs(const char *path) BN_MUST_CHECK; /* as mkdir -p */
bn_status bn_fs_remove(const char *path) BN_MUST_CHECK; /* a file; missing is fine */
/* Flushes a file or a folder to the disk. */
bn_status bn_fs_sync(const char *path) BN_MUST_CHECK;
/* Makes the complete, closed file `temp` be `path`: fsync, rename, fsync of
 * the folder. Both in one folder. On failure `temp` is removed and `path` is
 * what it was (or, if the last fsync fails, already the new file). */
bn_status bn_fs_commit(const char *temp, const char *path) BN_MUST_CHECK;
/* Replaces a file as a whole: after a failure or a power cut `path` has either
 * the old content or the new. The temporary name is path + ".tmp". */
bn_status bn_fs_write(const char *path, const void *data, size_t size) BN_MUST_CHECK;

/* A file written from front to back. Every write reaches the system at once,
 * so whole lines survive a killed process; bn_file_sync() reaches the disk. */
typedef struct bn_file bn_file;
bn_status bn_file_create(const char *path, bn_file **out) BN_MUST_CHECK; /* empties it */
bn_status bn_file_append(const char *path, bn_file **out) BN_MUST_CHECK; /* makes it */
bn_status bn_file_write(bn_file *file, const void *data, size_t size) BN_MUST_CHECK;
/* Cuts to `size` bytes; more than there are is BN_BAD_DATA. */
bn_status bn_file_truncate(bn_file *file, uint64_t size) BN_MUST_CHECK;
uint64_t bn_file_size(const bn_file *file); /* bytes so far */
bn_status bn_file_sync(bn_file *file) BN_MUST_CHECK;
/* Closes and frees; the result of close() counts. NULL is fine. */
bn_status bn_file_close(bn_file *file) BN_MUST_CHECK;

#endif
