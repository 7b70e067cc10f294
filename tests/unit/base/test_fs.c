/* Files: what is asked, read and written, and every system call failing once. */
#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static void write_text(const char *path, const char *text)
{
    assert_ok(bn_fs_write(path, text, strlen(text)));
}

static void assert_content(const char *path, const char *expected)
{
    char *data;
    size_t size;
    assert_ok(bn_fs_read(path, 1000, &data, &size));
    assert_int_equal(size, strlen(expected));
    assert_string_equal(data, expected);
    free(data);
}

static void assert_message(const char *part)
{
    if (!strstr(bn_error_text(), part))
        fail_msg("\"%s\" is not in: %s", part, bn_error_text());
}

/* A fresh folder per test, entered. */
static int enter(void **state)
{
    char folder[] = "fs-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder) != 0)
        return -1;
    *state = strdup(folder);
    return 0;
}

static int leave(void **state)
{
    char *folder = *state;
    int failed = chdir("..");
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    failed |= system(command);
    free(folder);
    bn_fs_set_ops(NULL);
    return failed;
}

/* ---- a table whose call number `fail_at` fails, counted from 1 ---- */

static struct {
    int calls, fail_at, error;
    const char *failed; /* name of the call that failed */
    size_t most;        /* bytes a write takes at a time */
    char order[256];    /* names of the calls so far */
} faulty;

static bool strike(const char *name)
{
    size_t used = strlen(faulty.order);
    snprintf(faulty.order + used, sizeof faulty.order - used, "%s ", name);
    if (++faulty.calls != faulty.fail_at)
        return false;
    faulty.failed = name;
    errno = faulty.error;
    return true;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
    return strike("open") ? -1 : open(path, flags, mode);
}

static ssize_t faulty_write(int fd, const void *data, size_t size)
{
    return strike("write") ? -1 : write(fd, data, size < faulty.most ? size : faulty.most);
}

static int faulty_fsync(int fd)
{
    return strike("fsync") ? -1 : fsync(fd);
}

static int faulty_ftruncate(int fd, off_t size)
{
    return strike("ftruncate") ? -1 : ftruncate(fd, size);
}

static int faulty_close(int fd)
{
    int result = close(fd);
    return strike("close") ? -1 : result;
}

static int faulty_rename(const char *from, const char *to)
{
    return strike("rename") ? -1 : rename(from, to);
}

static int faulty_unlink(const char *path)
{
    return strike("unlink") ? -1 : unlink(path);
}

static int faulty_mkdir(const char *path, mode_t mode)
{
    return strike("mkdir") ? -1 : mkdir(path, mode);
}

static int faulty_statvfs(const char *path, struct statvfs *out)
{
    return strike("statvfs") ? -1 : statvfs(path, out);
}

static const bn_fs_ops faulty_ops = {
    faulty_open,   faulty_write,  faulty_fsync, faulty_ftruncate, faulty_close,
    faulty_rename, faulty_unlink, faulty_mkdir, faulty_statvfs,
};

static void fail_call(int number, int error)
{
    faulty.calls = 0;
    faulty.fail_at = number;
    faulty.error = error;
    faulty.failed = NULL;
    faulty.most = 4;
    faulty.order[0] = '\0';
    bn_fs_set_ops(&faulty_ops);
}

/* ---- tests ---- */

static void test_write_and_read(void **state)
{
    (void)state;
    char *data;
    size_t size;
    assert_ok(bn_fs_write("bytes", "a\0b", 3));
    assert_ok(bn_fs_read("bytes", 3, &data, &size));
    assert_int_equal(size, 3);
    assert_memory_equal(data, "a\0b", 4);
    free(data);
    assert_int_equal(bn_fs_read("bytes", 2, &data, &size), BN_BAD_DATA);
    assert_null(data);
    assert_message("bytes: more than 2 bytes");
    write_text("empty", "");
    assert_content("empty", "");
    assert_false(bn_fs_exists("bytes.tmp"));
}

static void test_missing_input(void **state)
{
    (void)state;
    char *data;
    bn_strings list;
    bn_map map;
    uint64_t bytes;
    assert_int_equal(bn_fs_read("absent", 10, &data, NULL), BN_NO_INPUT);
    assert_string_equal(bn_error_text(), "absent: cannot read: No such file or directory");
    assert_int_equal(bn_fs_read(".", 1 << 20, &data, NULL), BN_NO_INPUT);
    assert_message("Is a directory");
    assert_int_equal(bn_map_open("absent", &map), BN_NO_INPUT);
    assert_int_equal(bn_map_open(".", &map), BN_NO_INPUT);
    assert_message("not a regular file");
    assert_int_equal(bn_fs_size("absent", &bytes), BN_NO_INPUT);
    assert_int_equal(bn_fs_list("absent", NULL, NULL, &list), BN_NO_INPUT);
    assert_int_equal(bn_fs_glob("absent", &list), BN_NO_INPUT);
    assert_int_equal(bn_fs_glob("absent*", &list), BN_NO_INPUT);
    assert_message("absent*: no file matches");
    assert_int_equal(bn_fs_sync("absent"), BN_IO);
}

/* Whatever call fails, the file has its old content or, once renamed, the new
 * one; the error is reported and no temporary file stays. */
static void test_write_survives_every_failure(void **state)
{
    (void)state;
    bool seen_rename = false, seen_close = false, seen_write = false, seen_fsync = false;
    for (int call = 1;; call++) {
        write_text("file", "old");
        fail_call(call, ENOSPC);
        bn_status status = bn_fs_write("file", "new content", 11);
        bn_fs_set_ops(NULL);
        if (!faulty.failed) {
            assert_ok(status);
            assert_content("file", "new content");
            break;
        }
        assert_int_equal(status, BN_IO);
        assert_message("No space left on device");
        assert_false(bn_fs_exists("file.tmp"));
        bool renamed = seen_rename && strcmp(faulty.failed, "rename") != 0;
        assert_content("file", renamed ? "new content" : "old");
        seen_write |= strcmp(faulty.failed, "write") == 0;
        seen_close |= strcmp(faulty.failed, "close") == 0;
        seen_fsync |= strcmp(faulty.failed, "fsync") == 0;
        seen_rename |= strcmp(faulty.failed, "rename") == 0;
    }
    assert_true(seen_write && seen_close && seen_fsync && seen_rename);
}

/* The content is on the disk before the name points to it, the name before the
 * call returns. */
static void test_order_of_a_write(void **state)
{
    (void)state;
    fail_call(0, 0);
    assert_ok(bn_fs_write("file", "content", 7));
    assert_string_equal(faulty.order, "open write write close open fsync close rename "
                                      "open fsync close ");
}

static void test_commit(void **state)
{
    (void)state;
    write_text("a", "old");
    write_text("b", "new");
    assert_ok(bn_fs_commit("b", "a"));
    assert_content("a", "new");
    assert_false(bn_fs_exists("b"));
    assert_int_equal(bn_fs_commit("b", "a"), BN_IO);
    assert_content("a", "new");
}

static void test_interrupted_write_goes_on(void **state)
{
    (void)state;
    fail_call(2, EINTR); /* 1 is open, 2 the first write */
    assert_ok(bn_fs_write("file", "new content", 11));
    assert_string_equal(faulty.failed, "write");
    bn_fs_set_ops(NULL);
    assert_content("file", "new content");
}

static void test_append_and_truncate(void **state)
{
    (void)state;
    bn_file *file;
    assert_ok(bn_file_append("lines", &file));
    assert_ok(bn_file_write(file, "one\n", 4));
    assert_content("lines", "one\n"); /* there before it is closed */
    assert_ok(bn_file_write(file, "two\n", 4));
    assert_ok(bn_file_close(file));

    assert_ok(bn_file_append("lines", &file));
    assert_int_equal(bn_file_size(file), 8);
    assert_ok(bn_file_truncate(file, 4));
    assert_ok(bn_file_write(file, "2\n", 2));
    assert_ok(bn_file_sync(file));
    assert_int_equal(bn_file_truncate(file, 100), BN_BAD_DATA);
    assert_message("lines: has 6 bytes, expected at least 100");
    assert_ok(bn_file_close(file));
    assert_content("lines", "one\n2\n");

    assert_ok(bn_file_create("lines", &file));
    assert_int_equal(bn_file_size(file), 0);
    assert_ok(bn_file_write(file, "abc", 3));
    assert_ok(bn_file_truncate(file, 1));
    assert_ok(bn_file_write(file, "d", 1));
    assert_ok(bn_file_close(file));
    assert_content("lines", "ad");
    assert_ok(bn_file_close(NULL));
    assert_int_equal(bn_file_create("no/such/file", &file), BN_IO);
}

static void test_file_failures_are_reported(void **state)
{
    (void)state;
    bn_file *file;
    assert_ok(bn_file_append("lines", &file));
    fail_call(1, ENOSPC);
    assert_int_equal(bn_file_write(file, "one\n", 4), BN_IO);
    assert_string_equal(bn_error_text(), "lines: cannot write: No space left on device");
    fail_call(1, EIO);
    assert_int_equal(bn_file_sync(file), BN_IO);
    assert_message("lines: cannot flush");
    fail_call(1, EIO);
    assert_int_equal(bn_file_truncate(file, 0), BN_IO);
    assert_message("lines: cannot shorten");
    fail_call(1, EIO);
    assert_int_equal(bn_file_close(file), BN_IO);
    assert_message("lines: cannot close");
    fail_call(1, EACCES);
    assert_int_equal(bn_fs_remove("lines"), BN_IO);
    assert_message("lines: cannot remove: Permission denied");
}

static void test_folders(void **state)
{
    (void)state;
    bool empty;
    assert_ok(bn_fs_mkdirs("a/b//c/"));
    assert_ok(bn_fs_mkdirs("a/b/c"));
    assert_true(bn_fs_is_dir("a/b/c"));
    assert_ok(bn_fs_dir_empty("a/b/c", &empty));
    assert_true(empty);
    assert_ok(bn_fs_dir_empty("a/b", &empty));
    assert_false(empty);
    assert_ok(bn_fs_dir_empty("absent", &empty));
    assert_true(empty);
    write_text("a/file", "");
    assert_int_equal(bn_fs_dir_empty("a/file", &empty), BN_IO);
    assert_int_equal(bn_fs_mkdirs("a/file"), BN_IO);
    assert_message("a/file: exists and is not a folder");
    assert_int_equal(bn_fs_mkdirs("a/file/b"), BN_IO);
    assert_false(bn_fs_is_dir("a/file"));
    assert_true(bn_fs_exists("a/file"));
    fail_call(1, ENOSPC);
    assert_int_equal(bn_fs_mkdirs("d/e"), BN_IO);
    assert_message("d: cannot make folder: No space left on device");
    bn_fs_set_ops(NULL);
    assert_ok(bn_fs_remove("a/file"));
    assert_ok(bn_fs_remove("a/file"));
    assert_false(bn_fs_exists("a/file"));
}

static void test_list(void **state)
{
    (void)state;
    bn_strings list;
    write_text("checkpoint-2.h5", "");
    write_text("checkpoint-10.h5", "");
    write_text("checkpoint-1.tmp", "");
    write_text("other.h5", "");
    assert_ok(bn_fs_list(".", "checkpoint-", ".h5", &list));
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0], "checkpoint-10.h5");
    assert_string_equal(list.items[1], "checkpoint-2.h5");
    bn_strings_clear(&list);
    assert_ok(bn_fs_list(".", NULL, NULL, &list));
    assert_int_equal(list.count, 4);
    bn_strings_clear(&list);
    assert_ok(bn_fs_list(".", "checkpoint-10.h5", "10.h5", &list)); /* overlapping ends */
    assert_int_equal(list.count, 0);
    bn_strings_clear(&list);
}

static void test_glob(void **state)
{
    (void)state;
    bn_strings list;
    write_text("b.txt", "");
    write_text("a.txt", "");
    write_text("x[1]", "");
    write_text("x1", "");
    assert_ok(bn_fs_glob("*.txt", &list));
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0], "a.txt");
    assert_string_equal(list.items[1], "b.txt");
    bn_strings_clear(&list);
    assert_ok(bn_fs_glob("x[1]", &list)); /* a file of that very name */
    assert_int_equal(list.count, 1);
    assert_string_equal(list.items[0], "x[1]");
    bn_strings_clear(&list);
    assert_true(bn_glob_match("model.*.q_proj", "model.layers.0.self_attn.q_proj"));
    assert_true(bn_glob_match("layer?", "layer1"));
    assert_false(bn_glob_match("lm_head", "lm_head2"));
}

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *path, *parent;
    } cases[] = {{"a/b", "a"}, {"a/b/", "a"}, {"a", "."},         {"/a", "/"},
                 {"/", "/"},   {"a//b", "a"}, {"/a/b/c", "/a/b"}, {"", "."}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *parent = bn_path_parent(cases[i].path);
        assert_string_equal(parent, cases[i].parent);
        free(parent);
    }
    char *joined = bn_path_join("a", "b");
    assert_string_equal(joined, "a/b");
    free(joined);
    joined = bn_path_join("a/", "b");
    assert_string_equal(joined, "a/b");
    free(joined);
}

static void test_map(void **state)
{
    (void)state;
    bn_map map;
    write_text("file", "content");
    assert_ok(bn_map_open("file", &map));
    assert_int_equal(map.size, 7);
    assert_memory_equal(map.data, "content", 7);
    bn_map_close(&map);
    bn_map_close(&map);
    write_text("empty", "");
    assert_ok(bn_map_open("empty", &map));
    assert_int_equal(map.size, 0);
    assert_non_null(map.data);
    bn_map_close(&map);
}

static void test_space_and_size(void **state)
{
    (void)state;
    uint64_t here, below, bytes;
    assert_ok(bn_fs_free_space(".", &here));
    assert_ok(bn_fs_free_space("not/yet/there", &below));
    assert_true(here > 0 && below > 0);
    fail_call(1, EIO);
    assert_int_equal(bn_fs_free_space(".", &here), BN_IO);
    bn_fs_set_ops(NULL);
    write_text("file", "content");
    assert_ok(bn_fs_size("file", &bytes));
    assert_int_equal(bytes, 7);
    assert_ok(bn_fs_sync("file"));
    assert_ok(bn_fs_sync("."));
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter, leave)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_write_and_read),
        IN_FOLDER(test_missing_input),
        IN_FOLDER(test_write_survives_every_failure),
        IN_FOLDER(test_order_of_a_write),
        IN_FOLDER(test_commit),
        IN_FOLDER(test_interrupted_write_goes_on),
        IN_FOLDER(test_append_and_truncate),
        IN_FOLDER(test_file_failures_are_reported),
        IN_FOLDER(test_folders),
        IN_FOLDER(test_list),
        IN_FOLDER(test_glob),
        IN_FOLDER(test_paths),
        IN_FOLDER(test_map),
        IN_FOLDER(test_space_and_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
