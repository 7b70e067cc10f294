/* The folder half of checkpoint.h. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"

#define NAME_PREFIX "checkpoint-"
#define NAME_SUFFIX ".h5"
#define TEMP_SUFFIX ".h5.tmp"
enum { NAME_SIZE = 48, MARK_BYTES_MAX = 4096 };

static void step_name(int64_t step, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, NAME_PREFIX "%08" PRId64 NAME_SUFFIX, step);
}

char *bn_checkpoint_path(const char *dir, int64_t step)
{
    char name[NAME_SIZE];
    step_name(step, name);
    return bn_path_join(dir, name);
}

/* The step of a checkpoint's name; -1 if it is not exactly one. */
static int64_t step_of(const char *name)
{
    const size_t prefix = strlen(NAME_PREFIX);
    char back[NAME_SIZE];
    if (strncmp(name, NAME_PREFIX, prefix) != 0 || !isdigit((unsigned char)name[prefix]))
        return -1;
    errno = 0;
    const long long step = strtoll(name + prefix, NULL, 10);
    if (errno != 0)
        return -1;
    step_name(step, back);
    return strcmp(name, back) == 0 ? step : -1;
}

/* ---- marks ---- */

static char *mark_path(const char *dir, bn_checkpoint_mark mark)
{
    return bn_path_join(dir, mark == BN_MARK_BEST ? "best" : "latest");
}

bn_status bn_checkpoint_set_mark(const char *dir, bn_checkpoint_mark mark, int64_t step)
{
    char text[NAME_SIZE + 1];
    char *path = mark_path(dir, mark);
    if (!path)
        return BN_FAIL;
    step_name(step, text);
    strcat(text, "\n");
    const bn_status status = bn_fs_write(path, text, strlen(text));
    free(path);
    return status;
}

bn_status bn_checkpoint_get_mark(const char *dir, bn_checkpoint_mark mark, int64_t *step)
{
    bn_status status = BN_OK;
    char *text = NULL;
    char *path = mark_path(dir, mark);
    *step = -1;
    if (!path)
        return BN_FAIL;
    if (!bn_fs_exists(path))
        goto out;
    BN_TRY_OUT(bn_fs_read(path, MARK_BYTES_MAX, &text, NULL));
    text[strcspn(text, "\n")] = '\0';
    *step = step_of(text);
    if (*step < 0)
        status = bn_error(BN_BAD_DATA, "%s: expected the name of a checkpoint, found \"%.60s\"",
                          path, text);
out:
    free(text);
    free(path);
    return status;
}

/* ---- lists ---- */

static int newest_first(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

bn_status bn_checkpoint_list(const char *dir, int64_t **steps, size_t *count)
{
    bn_status status;
    bn_strings names = {0};
    *steps = NULL;
    *count = 0;
    BN_TRY_OUT(bn_fs_list(dir, NAME_PREFIX, NAME_SUFFIX, &names));
    if (names.count == 0)
        goto out;
    int64_t *list = malloc(names.count * sizeof *list);
    if (!list) {
        status = bn_error_nomem("the list of checkpoints", names.count * sizeof *list);
        goto out;
    }
    size_t n = 0;
    for (size_t i = 0; i < names.count; i++) {
        list[n] = step_of(names.items[i]);
        n += list[n] >= 0;
    }
    qsort(list, n, sizeof *list, newest_first);
    if (n == 0) {
        free(list);
        list = NULL;
    }
    *steps = list;
    *count = n;
out:
    bn_strings_clear(&names);
    return status;
}

/* Verifies one; on success hands its path over. Only reasons that lie in the
 * file make it a skipped one: *skipped_one, with BN_OK. */
static bn_status try_step(const char *dir, int64_t step, char **path, bn_strings *skipped,
                          bool *skipped_one)
{
    *skipped_one = false;
    *path = bn_checkpoint_path(dir, step);
    if (!*path)
        return BN_FAIL;
    bn_status status = bn_checkpoint_verify(*path);
    if (status == BN_OK)
        return BN_OK;
    free(*path);
    *path = NULL;
    if (status != BN_BAD_DATA && status != BN_NO_INPUT)
        return status;
    *skipped_one = true;
    return skipped ? bn_strings_add(skipped, bn_error_text()) : BN_OK;
}

bn_status bn_checkpoint_find_newest(const char *dir, int64_t *step, char **path,
                                    bn_strings *skipped)
{
    int64_t *steps;
    size_t count;
    *path = NULL;
    BN_TRY(bn_checkpoint_list(dir, &steps, &count));
    bn_status status = BN_OK;
    bool failed = true;
    for (size_t i = 0; i < count && failed && status == BN_OK; i++) {
        *step = steps[i];
        status = try_step(dir, steps[i], path, skipped, &failed);
    }
    free(steps);
    if (status == BN_OK && failed)
        status = count == 0
                     ? bn_error(BN_NO_INPUT, "%s: no checkpoint in this folder", dir)
                     : bn_error(BN_NO_INPUT, "%s: none of %zu checkpoints can be used", dir, count);
    return status;
}

bn_status bn_checkpoint_find_best(const char *dir, int64_t *step, char **path, bn_strings *skipped)
{
    bool failed = false;
    *path = NULL;
    const bn_status marked = bn_checkpoint_get_mark(dir, BN_MARK_BEST, step);
    if (marked == BN_BAD_DATA && skipped)
        BN_TRY(bn_strings_add(skipped, bn_error_text()));
    if (marked != BN_OK && marked != BN_BAD_DATA)
        return marked;
    if (*step >= 0) {
        BN_TRY(try_step(dir, *step, path, skipped, &failed));
        if (!failed)
            return BN_OK;
    }
    return bn_checkpoint_find_newest(dir, step, path, skipped);
}

/* ---- pruning ---- */

static bn_status remove_in(const char *dir, const char *name)
{
    char *path = bn_path_join(dir, name);
    if (!path)
        return BN_FAIL;
    const bn_status status = bn_fs_remove(path);
    free(path);
    return status;
}

static bn_status remove_temps(const char *dir)
{
    bn_strings names = {0};
    bn_status status = bn_fs_list(dir, NAME_PREFIX, TEMP_SUFFIX, &names);
    for (size_t i = 0; i < names.count && status == BN_OK; i++)
        status = remove_in(dir, names.items[i]);
    bn_strings_clear(&names);
    return status;
}

bn_status bn_checkpoint_prune(const char *dir, int limit, int64_t verified)
{
    int64_t *steps = NULL;
    size_t count;
    int64_t best;
    BN_TRY(remove_temps(dir));
    if (limit <= 0)
        return BN_OK;
    /* A mark that cannot be read could mean any of them: nothing is deleted. */
    BN_TRY(bn_checkpoint_get_mark(dir, BN_MARK_BEST, &best));
    BN_TRY(bn_checkpoint_list(dir, &steps, &count));
    bn_status status = BN_OK;
    for (size_t i = (size_t)limit; i < count && status == BN_OK; i++) {
        char name[NAME_SIZE];
        if (steps[i] == best || steps[i] == verified)
            continue;
        step_name(steps[i], name);
        status = remove_in(dir, name);
    }
    free(steps);
    return status;
}
