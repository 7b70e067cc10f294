#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the seam ---- */

static int real_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

static const bn_fs_ops real_ops = {
    .open = real_open,
    .write = write,
    .fsync = fsync,
    .ftruncate = ftruncate,
    .close = close,
    .rename = rename,
    .unlink = unlink,
    .mkdir = mkdir,
    .statvfs = statvfs,
};

static const bn_fs_ops *ops = &real_ops;

const bn_fs_ops *bn_fs_get_ops(void)
{
    return ops;
}

const bn_fs_ops *bn_fs_set_ops(const bn_fs_ops *replacement)
{
    const bn_fs_ops *before = ops;
    ops = replacement ? replacement : &real_ops;
    return before;
}

/* ---- errors ---- */

/* "path: cannot VERB: No such file or directory" from errno. */
static bn_status fail(const char *verb, const char *path)
{
    return bn_error(BN_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

/* The same for something that is to be read: what the user can put right is
 * BN_NO_INPUT. */
static bn_status fail_input(const char *verb, const char *path)
{
    int error = errno;
    bn_status status = fail(verb, path);
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case EPERM:
    case ELOOP:
    case ENAMETOOLONG:
        return BN_NO_INPUT;
    default:
        return status;
    }
}

/* ---- asking ---- */

bool bn_fs_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool bn_fs_same(const char *a, const char *b)
{
    struct stat one, other;
    return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

bool bn_fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bn_status bn_fs_size(const char *path, uint64_t *bytes)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return fail_input("read", path);
    *bytes = (uint64_t)st.st_size;
    return BN_OK;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

bn_status bn_fs_dir_empty(const char *path, bool *empty)
{
    *empty = true;
    errno = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? BN_OK : fail("read folder", path);
    for (const struct dirent *entry; *empty && (entry = readdir(dir));)
        *empty = is_dot(entry->d_name);
    closedir(dir);
    return BN_OK;
}

bn_status bn_fs_free_space(const char *path, uint64_t *bytes)
{
    struct statvfs st;
    if (ops->statvfs(path, &st) == 0) {
        *bytes = (uint64_t)st.f_bavail * st.f_frsize;
        return BN_OK;
    }
    if (errno != ENOENT || strcmp(path, "/") == 0 || strcmp(path, ".") == 0)
        return fail("ask for the free space of", path);
    char *parent = bn_path_parent(path);
    if (!parent)
        return BN_FAIL;
    bn_status status = bn_fs_free_space(parent, bytes);
    free(parent);
    return status;
}

static bool starts_and_ends(const char *name, const char *prefix, const char *suffix)
{
    size_t size = strlen(name), head = prefix ? strlen(prefix) : 0;
    size_t tail = suffix ? strlen(suffix) : 0;
    return size >= head + tail && (!head || memcmp(name, prefix, head) == 0) &&
           (!tail || memcmp(name + size - tail, suffix, tail) == 0);
}

bn_status bn_fs_list(const char *path, const char *prefix, const char *suffix, bn_strings *out)
{
    bn_status status = BN_OK;
    *out = (bn_strings){0};
    DIR *dir = opendir(path);
    if (!dir)
        return fail_input("read folder", path);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry)
            break;
        if (!is_dot(entry->d_name) && starts_and_ends(entry->d_name, prefix, suffix))
            BN_TRY_OUT(bn_strings_add(out, entry->d_name));
    }
    if (errno)
        status = fail("read folder", path);
    bn_strings_sort(out);
out:
    closedir(dir);
    if (status != BN_OK)
        bn_strings_clear(out);
    return status;
}

bn_status bn_fs_glob(const char *pattern, bn_strings *out)
{
    *out = (bn_strings){0};
    if (bn_fs_exists(pattern))
        return bn_strings_add(out, pattern);
    if (!strpbrk(pattern, "*?[")) {
        errno = ENOENT;
        return fail_input("read", pattern);
    }
    glob_t found = {0};
    int error = glob(pattern, GLOB_NOSORT, NULL, &found);
    bn_status status = BN_OK;
    if (error == GLOB_NOMATCH)
        status = bn_error(BN_NO_INPUT, "%s: no file matches this pattern", pattern);
    else if (error)
        status = bn_error(BN_IO, "%s: cannot look for matching files", pattern);
    for (size_t i = 0; status == BN_OK && i < found.gl_pathc; i++)
        status = bn_strings_add(out, found.gl_pathv[i]);
    globfree(&found);
    bn_strings_sort(out);
    if (status != BN_OK)
        bn_strings_clear(out);
    return status;
}

bool bn_glob_match(const char *pattern, const char *name)
{
    return fnmatch(pattern, name, 0) == 0;
}

/* ---- paths ---- */

char *bn_path_join(const char *dir, const char *name)
{
    size_t size = strlen(dir);
    return bn_format("%s%s%s", dir, size && dir[size - 1] == '/' ? "" : "/", name);
}

char *bn_path_parent(const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') /* "a/b/" is "a/b" */
        size--;
    while (size && path[size - 1] != '/')
        size--;
    while (size > 1 && path[size - 1] == '/')
        size--;
    return size ? bn_format("%.*s", (int)size, path) : bn_strdup(".");
}

/* ---- reading ---- */

/* Reads to the end of the file or to `capacity`, whichever is first. */
static bn_status read_up_to(int fd, const char *path, char *data, size_t capacity, size_t *size)
{
    *size = 0;
    while (*size < capacity) {
        ssize_t got = read(fd, data + *size, capacity - *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_input("read", path);
        if (got == 0)
            return BN_OK;
        *size += (size_t)got;
    }
    return BN_OK;
}

bn_status bn_fs_read(const char *path, size_t limit, char **out, size_t *size)
{
    bn_status status = BN_OK;
    char *data = NULL;
    size_t got = 0;
    struct stat st;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        status = fail_input("read", path);
        goto out;
    }
    /* A pipe tells no size: `limit` bytes are set aside for it. One byte more
     * than expected tells whether there is more. */
    size_t expected = S_ISREG(st.st_mode) ? (size_t)st.st_size : limit;
    if (expected <= limit) {
        data = malloc(expected + 1);
        if (!data) {
            status = bn_error_nomem(path, expected + 1);
            goto out;
        }
        BN_TRY_OUT(read_up_to(fd, path, data, expected + 1, &got));
    }
    if (expected > limit || got > limit) {
        status = bn_error(BN_BAD_DATA, "%s: more than %zu bytes", path, limit);
        goto out;
    }
    if (got > expected) {
        status = bn_error(BN_IO, "%s: grew while it was read", path);
        goto out;
    }
    data[got] = '\0';
    *out = data;
    data = NULL;
    if (size)
        *size = got;
out:
    free(data);
    if (fd >= 0)
        close(fd);
    return status;
}

bn_status bn_map_open(const char *path, bn_map *out)
{
    bn_status status = BN_OK;
    struct stat st;
    *out = (bn_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        status = fail_input("read", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        status = bn_error(BN_NO_INPUT, "%s: not a regular file", path);
        goto out;
    }
    out->size = (size_t)st.st_size;
    out->data = (const unsigned char *)"";
    if (out->size) {
        void *memory = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (memory == MAP_FAILED) {
            *out = (bn_map){0};
            status = fail("map", path);
            goto out;
        }
        out->data = memory;
    }
out:
    if (fd >= 0)
        close(fd);
    return status;
}

size_t bn_map_drop(const bn_map *map, size_t from, size_t to)
{
    union {
        const unsigned char *data;
        void *memory;
    } u = {map->data + from};
    to -= to % (size_t)sysconf(_SC_PAGESIZE);
    if (to <= from)
        return from;
    madvise(u.memory, to - from, MADV_DONTNEED); /* a hint */
    return to;
}

void bn_map_close(bn_map *map)
{
    union {
        const unsigned char *data;
        void *memory;
    } u = {map->data};
    if (map->size)
        munmap(u.memory, map->size);
    *map = (bn_map){0};
}

/* ---- writing ---- */

static bn_status make_dir(const char *path)
{
    if (ops->mkdir(path, 0777) == 0)
        return BN_OK;
    if (errno != EEXIST)
        return fail("make folder", path);
    if (!bn_fs_is_dir(path))
        return bn_error(BN_IO, "%s: exists and is not a folder", path);
    return BN_OK;
}

bn_status bn_fs_mkdirs(const char *path)
{
    bn_status status = BN_OK;
    if (bn_fs_is_dir(path)) /* also where a parent may not be written to */
        return BN_OK;
    char *copy = bn_strdup(path);
    if (!copy)
        return BN_FAIL;
    for (char *p = copy; *p && status == BN_OK; p++) {
        if (p > copy && *p == '/' && p[-1] != '/') {
            *p = '\0';
            if (!bn_fs_is_dir(copy))
                status = make_dir(copy);
            *p = '/';
        }
    }
    free(copy);
    return status == BN_OK ? make_dir(path) : status;
}

bn_status bn_fs_remove(const char *path)
{
    if (ops->unlink(path) != 0 && errno != ENOENT)
        return fail("remove", path);
    return BN_OK;
}

/* The descriptor is gone after close() whatever it returns. */
static bn_status close_fd(int fd, const char *path)
{
    if (ops->close(fd) != 0 && errno != EINTR)
        return fail("close", path);
    return BN_OK;
}

bn_status bn_fs_sync(const char *path)
{
    bn_status status = BN_OK;
    int fd = ops->open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fail("open", path);
    /* Some file systems have nothing to flush for a folder and say EINVAL. */
    if (ops->fsync(fd) != 0 && !(errno == EINVAL && bn_fs_is_dir(path)))
        status = fail("flush", path);
    bn_status closed = close_fd(fd, path);
    return status != BN_OK ? status : closed;
}

bn_status bn_fs_commit(const char *temp, const char *path)
{
    bn_status status = bn_fs_sync(temp);
    if (status == BN_OK && ops->rename(temp, path) != 0)
        status = fail("replace", path);
    if (status != BN_OK) {
        ops->unlink(temp); /* the first error is the one to report */
        return status;
    }
    char *parent = bn_path_parent(path);
    if (!parent)
        return BN_FAIL;
    status = bn_fs_sync(parent);
    free(parent);
    return status;
}

bn_status bn_fs_write(const char *path, const void *data, size_t size)
{
    bn_file *file = NULL;
    char *temp = bn_format("%s.tmp", path);
    if (!temp)
        return BN_FAIL;
    bn_status status = bn_file_create(temp, &file);
    if (status == BN_OK) {
        status = bn_file_write(file, data, size);
        bn_status closed = bn_file_close(file);
        status = status != BN_OK ? status : closed;
        if (status != BN_OK)
            ops->unlink(temp);
        else
            status = bn_fs_commit(temp, path);
    }
    free(temp);
    return status;
}

struct bn_file {
    int fd;
    uint64_t size;
    char path[];
};

static bn_status open_file(const char *path, int flags, bn_file **out)
{
    *out = NULL;
    size_t bytes = sizeof(bn_file) + strlen(path) + 1;
    bn_file *file = malloc(bytes);
    if (!file)
        return bn_error_nomem(path, bytes);
    memcpy(file->path, path, strlen(path) + 1);
    file->fd = ops->open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666);
    struct stat st;
    if (file->fd < 0 || fstat(file->fd, &st) != 0) {
        bn_status status = fail("write", path);
        if (file->fd >= 0)
            ops->close(file->fd);
        free(file);
        return status;
    }
    file->size = (uint64_t)st.st_size;
    *out = file;
    return BN_OK;
}

bn_status bn_file_create(const char *path, bn_file **out)
{
    return open_file(path, O_TRUNC, out);
}

bn_status bn_file_append(const char *path, bn_file **out)
{
    return open_file(path, O_APPEND, out);
}

bn_status bn_file_write(bn_file *file, const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t put = ops->write(file->fd, p, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return fail("write", file->path);
        p += put;
        size -= (size_t)put;
        file->size += (uint64_t)put;
    }
    return BN_OK;
}

bn_status bn_file_truncate(bn_file *file, uint64_t size)
{
    if (size > file->size)
        return bn_error(BN_BAD_DATA, "%s: has %llu bytes, expected at least %llu", file->path,
                        (unsigned long long)file->size, (unsigned long long)size);
    if (ops->ftruncate(file->fd, (off_t)size) != 0)
        return fail("shorten", file->path);
    if (lseek(file->fd, (off_t)size, SEEK_SET) < 0)
        return fail("seek in", file->path);
    file->size = size;
    return BN_OK;
}

uint64_t bn_file_size(const bn_file *file)
{
    return file->size;
}

bn_status bn_file_sync(bn_file *file)
{
    return ops->fsync(file->fd) == 0 ? BN_OK : fail("flush", file->path);
}

bn_status bn_file_close(bn_file *file)
{
    if (!file)
        return BN_OK;
    bn_status status = close_fd(file->fd, file->path);
    free(file);
    return status;
}
