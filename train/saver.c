#include "train/saver.h"

#include <stdlib.h>

#include "train/checkpoint_io.h"

char *bn_saver_last_good(const bn_saver *s)
{
    return s->saved_step >= 0 ? bn_checkpoint_path(s->folder->path, s->saved_step) : NULL;
}

/* ---- before the run ----------------------------------------------------- */

/* Bytes of the checkpoints in the folder. */
static bn_status bytes_there(const bn_saver *s, uint64_t *bytes)
{
    int64_t *steps;
    size_t count;
    *bytes = 0;
    BN_TRY(bn_checkpoint_list(s->folder->path, &steps, &count));
    bn_status status = BN_OK;
    for (size_t i = 0; status == BN_OK && i < count; i++) {
        uint64_t size = 0;
        char *path = bn_checkpoint_path(s->folder->path, steps[i]);
        status = path ? bn_fs_size(path, &size) : BN_FAIL;
        free(path);
        *bytes += size;
    }
    free(steps);
    return status;
}

bn_status bn_saver_check_space(const bn_saver *s, const bn_trainer *trainer, bool replaced)
{
    char one_text[BN_SIZE_TEXT], all_text[BN_SIZE_TEXT], free_text[BN_SIZE_TEXT];
    uint64_t free_bytes, there;
    const uint64_t one = bn_trainer_save_bytes(trainer);
    const uint64_t count = (uint64_t)s->limit + 2;
    const uint64_t all = count > UINT64_MAX / one ? UINT64_MAX : count * one;
    BN_TRY(bn_fs_free_space(s->folder->path, &free_bytes));
    BN_TRY(bytes_there(s, &there));
    bn_size_text(one, one_text);
    bn_size_text(all, all_text);
    bn_size_text(free_bytes, free_text);
    if (free_bytes + (replaced ? there : 0) < one)
        return bn_error(BN_IO,
                        "%s: %s free, a checkpoint of this run takes %s: make room or give another "
                        "--output-dir",
                        s->folder->path, free_text, one_text);
    if (free_bytes + there < all)
        bn_observer_warn(s->observer,
                         bn_format("%s: %s free, %llu checkpoints of %s take %s: make room or "
                                   "lower training.save_total_limit (%lld)",
                                   s->folder->path, free_text, (unsigned long long)count, one_text,
                                   all_text, (long long)s->limit));
    return BN_OK;
}

/* ---- saving ------------------------------------------------------------- */

/* Which checkpoint is best may be unreadable: then all stay, and the run goes
 * on. */
static bn_status prune(const bn_saver *s, int64_t step)
{
    const bn_status status = bn_checkpoint_prune(s->folder->path, (int)s->limit, step);
    if (status != BN_BAD_DATA && status != BN_NO_INPUT)
        return status;
    bn_observer_note(s->observer, bn_format("no old checkpoint is deleted: %s", bn_error_text()));
    bn_error_clear();
    return BN_OK;
}

static bn_status try_save(bn_saver *s, bn_trainer *trainer, uint64_t metrics_bytes)
{
    const bn_train_progress *p = &trainer->progress;
    const char *dir = s->folder->path;
    if (s->saved_step != p->step) {
        char *path = bn_checkpoint_path(dir, p->step);
        bn_status status = path ? bn_trainer_save(trainer, path, metrics_bytes) : BN_FAIL;
        free(path);
        BN_TRY(status);
        s->saved_step = p->step;
    }
    BN_TRY(bn_checkpoint_set_mark(dir, BN_MARK_LATEST, p->step));
    if (p->best_step == p->step)
        BN_TRY(bn_checkpoint_set_mark(dir, BN_MARK_BEST, p->step));
    return prune(s, p->step);
}

/* "12.1 MiB needed, 3 MiB free", as far as the system says. */
static char *needed_and_free(const bn_saver *s, const bn_trainer *trainer)
{
    char needed[BN_SIZE_TEXT], there[BN_SIZE_TEXT];
    uint64_t bytes;
    bn_size_text(bn_trainer_save_bytes(trainer), needed);
    if (bn_fs_free_space(s->folder->path, &bytes) != BN_OK)
        return bn_format("%s needed", needed);
    return bn_format("%s needed, %s free", needed, bn_size_text(bytes, there));
}

static bn_status report_failure(bn_saver *s, const bn_trainer *trainer, bool last)
{
    char *why = bn_strdup(bn_error_text());
    char *sizes = needed_and_free(s, trainer), *good = bn_saver_last_good(s);
    const long long step = (long long)trainer->progress.step;
    bn_status status = BN_OK;
    s->failures++;
    if (!why || !sizes)
        status = BN_FAIL;
    else if (last)
        status = bn_error(BN_IO, "%s (%s)", why, sizes);
    else if (s->failures >= BN_SAVES_FAILED)
        status = bn_error(BN_IO, "%s (%s), %d saves in a row", why, sizes, s->failures);
    else
        bn_observer_warn(
            s->observer,
            bn_format("STEP %lld IS NOT SAVED: %s (%s); %s%s; training goes on and saves again at "
                      "the next interval; failure %d of %d",
                      step, why, sizes, good ? "last good checkpoint: " : "there is no checkpoint",
                      good ? good : "", s->failures, BN_SAVES_FAILED));
    if (status == BN_OK)
        bn_error_clear();
    free(why);
    free(sizes);
    free(good);
    return status;
}

bn_status bn_saver_save(bn_saver *s, bn_trainer *trainer, uint64_t metrics_bytes, bool last)
{
    if (s->saved_step == trainer->progress.step && s->failures == 0)
        return BN_OK;
    bn_status status = try_save(s, trainer, metrics_bytes);
    if (status == BN_IO)
        return report_failure(s, trainer, last);
    if (status == BN_OK && s->failures > 0) {
        bn_observer_warn(s->observer, bn_format("step %lld is saved, after %d failures",
                                                (long long)trainer->progress.step, s->failures));
        s->failures = 0;
    }
    return status;
}
