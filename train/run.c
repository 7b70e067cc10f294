#include "train/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/timer.h"
#include "model/device.h"
#include "model/load.h"
#include "train/checkpoint_io.h"
#include "train/memory.h"
#include "train/saver.h"
#include "train/watchdog.h"

typedef struct run {
    const bn_config *config;
    const bn_run_options *options;
    const char *first_device; /* name of the backend it was started on */
    bn_run_folder folder;
    bn_train_data data;
    bn_trainer *trainer;
    bn_metrics *metrics;
    bn_checkpoint *from; /* resumed from, open while starting; NULL: a fresh start */
    char *from_path;
    bn_saver saver;
    bn_watchdog *watchdog;
    bool spiking;      /* so was the step before */
    bool settled;      /* the folder is this run's */
    bool catching;     /* options->catch_signals has been called */
    bool metrics_wait; /* for room on the disk */
    bn_backend *cpu;   /* where the run goes on when its device is lost; else NULL */
    char *cpu_text;    /* its description */
    int64_t lost_step; /* where it goes on */
    double started, elapsed_before;
    double line_training_s; /* training time at the last metrics line */
    int64_t line_tokens;
    size_t start_rss;
    bool evaluated; /* `evaluation` is of the present step */
    bn_evaluation evaluation;
    bn_step_result last;
} run;

static void note(const run *r, char *text)
{
    bn_observer_note(&r->options->observer, text);
}

static void warn(const run *r, char *text)
{
    bn_observer_warn(&r->options->observer, text);
}

static double elapsed(const run *r)
{
    return r->elapsed_before + bn_seconds() - r->started;
}

static bool stopped_early(const run *r)
{
    const int64_t patience = r->config->training.early_stop_patience;
    return patience > 0 && r->trainer->progress.evals_since_best >= patience;
}

static bool at_end(const run *r)
{
    return r->trainer->progress.step >= r->config->training.max_steps || stopped_early(r);
}

/* ---- starting ----------------------------------------------------------- */

/* The path --resume stands for; NULL when an automatic resume finds a folder
 * without any checkpoint. */
static bn_status find_checkpoint(run *r)
{
    const char *wanted = r->options->resume;
    const bool automatic = strcmp(wanted, "auto") == 0;
    const char *dir = automatic ? r->folder.path : wanted;
    bn_strings skipped = {0};
    int64_t *steps = NULL;
    int64_t step;
    size_t count = 0;
    if (!automatic && !bn_fs_is_dir(wanted)) {
        r->from_path = bn_strdup(wanted);
        return r->from_path ? BN_OK : BN_FAIL;
    }
    BN_TRY(bn_checkpoint_list(dir, &steps, &count));
    free(steps);
    if (automatic && count == 0) {
        note(r, bn_format("%s: no checkpoint to go on from: starting at step 0", dir));
        return BN_OK;
    }
    bn_status status = bn_checkpoint_find_newest(dir, &step, &r->from_path, &skipped);
    for (size_t i = 0; i < skipped.count; i++)
        note(r, bn_format("skipped %s", skipped.items[i]));
    bn_strings_clear(&skipped);
    if (status == BN_NO_INPUT && count > 0)
        return bn_error(BN_BAD_DATA, "%s: none of its %zu checkpoints can be read", dir, count);
    return status;
}

/* Going on from an older checkpoint than the folder's newest would leave two
 * histories in one folder; only damaged ones may be newer. */
static bn_status refuse_older(run *r, int64_t step)
{
    int64_t *steps;
    size_t count;
    if (strcmp(r->options->resume, "auto") == 0)
        return BN_OK;
    BN_TRY(bn_checkpoint_list(r->folder.path, &steps, &count));
    bn_status status = BN_OK;
    for (size_t i = 0; status == BN_OK && i < count && steps[i] > step; i++) {
        char *newer = bn_checkpoint_path(r->folder.path, steps[i]);
        if (!newer)
            status = BN_FAIL;
        else if (bn_checkpoint_verify(newer) == BN_OK)
            status = bn_error(BN_USAGE,
                              "%s: is of step %lld, but %s already has a checkpoint of step %lld: "
                              "give another --output-dir, or remove the newer ones",
                              r->from_path, (long long)step, r->folder.path, (long long)steps[i]);
        free(newer);
    }
    free(steps);
    return status;
}

/* Lists what has changed since the checkpoint; an architecture key is an error,
 * found before memory is taken. */
static bn_status compare_configs(run *r)
{
    bn_config saved;
    bn_config_diff diff = {0};
    bn_status status = BN_OK;
    BN_TRY(bn_checkpoint_config(r->from_path, r->from, &saved));
    BN_TRY_OUT(bn_config_check_resume(&saved, r->config));
    BN_TRY_OUT(bn_config_compare(&saved, r->config, &diff));
    for (int64_t i = 0; i < diff.count; i++)
        if (diff.items[i].role & BN_CFG_SCHEDULE)
            note(r, bn_format("changed since the checkpoint: %s: %s -> %s", diff.items[i].key,
                              diff.items[i].a, diff.items[i].b));
out:
    bn_config_diff_clear(&diff);
    bn_config_clear(&saved);
    return status;
}

static bn_status open_checkpoint(run *r)
{
    if (!r->options->resume)
        return BN_OK;
    BN_TRY(find_checkpoint(r));
    if (!r->from_path)
        return BN_OK;
    BN_TRY(bn_checkpoint_open(r->from_path, &r->from));
    const int64_t step = bn_checkpoint_state(r->from)->step;
    r->elapsed_before = bn_checkpoint_state(r->from)->elapsed_s;
    BN_TRY(refuse_older(r, step));
    note(r, bn_format("going on from %s (step %lld)", r->from_path, (long long)step));
    return compare_configs(r);
}

static bn_status mark_if_there(run *r, bn_checkpoint_mark mark, int64_t step, bool *there)
{
    char *path = step >= 0 ? bn_checkpoint_path(r->folder.path, step) : NULL;
    *there = path && bn_fs_exists(path);
    free(path);
    return *there ? bn_checkpoint_set_mark(r->folder.path, mark, step) : BN_OK;
}

/* Texts are known by what is in them, not by their names. */
static void note_data(run *r, const bn_restored *restored)
{
    const bn_data_identity *was = &restored->data, *is = &r->data.identity;
    if (restored->data_known && (was->train != is->train || was->train_hash != is->train_hash))
        note(r, bn_format("changed since the checkpoint: the training data: %lld tokens or rows "
                          "(hash %016llx) -> %lld (hash %016llx)",
                          (long long)was->train, (unsigned long long)was->train_hash,
                          (long long)is->train, (unsigned long long)is->train_hash));
    if (restored->data_known &&
        (was->validation != is->validation || was->validation_hash != is->validation_hash))
        note(r, bn_format("changed since the checkpoint: the held-out data: %lld tokens or rows "
                          "(hash %016llx) -> %lld (hash %016llx): its losses do not compare",
                          (long long)was->validation, (unsigned long long)was->validation_hash,
                          (long long)is->validation, (unsigned long long)is->validation_hash));
    if (restored->data_restarted && !r->options->one_batch)
        note(r, bn_format("the order of the training data starts anew"));
}

static bn_status restore(run *r)
{
    const bn_train_progress *p = &r->trainer->progress;
    bn_restored restored;
    bool there;
    bn_status status = bn_trainer_restore(r->trainer, r->from, &restored);
    if (status != BN_OK)
        return bn_error_in(status, r->from_path);
    note_data(r, &restored);
    char *own = bn_checkpoint_path(r->folder.path, p->step);
    const bool is_own = own && bn_fs_same(own, r->from_path);
    free(own);
    if (!is_own)
        return BN_OK;
    /* A run killed between saving and marking left the marks behind. */
    r->saver.saved_step = p->step;
    BN_TRY(mark_if_there(r, BN_MARK_LATEST, p->step, &there));
    return mark_if_there(r, BN_MARK_BEST, p->best_step, &there);
}

static bn_folder_mode folder_mode(const run *r)
{
    return r->options->resume      ? BN_FOLDER_RESUME
           : r->options->overwrite ? BN_FOLDER_OVERWRITE
                                   : BN_FOLDER_NEW;
}

static bn_status open_metrics(run *r)
{
    char *path = bn_run_folder_file(&r->folder, "metrics.jsonl");
    bn_status status =
        path ? bn_metrics_open(path, r->trainer->progress.step, &r->metrics) : BN_FAIL;
    free(path);
    return status;
}

/* Data, folder and checkpoint: all that needs no device. */
static bn_status prepare(run *r)
{
    r->started = bn_seconds();
    r->start_rss = bn_resident_bytes();
    BN_TRY(bn_train_data_open(r->config, &r->data));
    BN_TRY(bn_run_folder_open(r->config->output_dir, folder_mode(r), &r->folder));
    if (r->options->resume) /* a killed run's temporary files take room */
        BN_TRY(bn_checkpoint_prune(r->folder.path, 0, -1));
    return open_checkpoint(r);
}

/* Makes the folder this run's, when all that a bad configuration spoils has been
 * made. */
static bn_status settle(run *r)
{
    char *config;
    if (r->settled)
        return BN_OK;
    if (folder_mode(r) == BN_FOLDER_OVERWRITE)
        BN_TRY(bn_run_folder_remove_run(&r->folder));
    BN_TRY(bn_config_dump(r->config, &config));
    bn_status status = bn_run_folder_write(&r->folder, "config.json", config);
    free(config);
    r->settled = status == BN_OK;
    return status;
}

/* The next metrics line counts from here. */
static void begin_line(run *r)
{
    r->line_training_s = r->trainer->progress.training_s;
    r->line_tokens = r->trainer->progress.tokens_seen;
}

/* A trainer on `backend` at the step where the run starts or goes on. */
static bn_status begin(run *r, bn_backend *backend)
{
    BN_TRY(bn_trainer_new(r->config, &r->data, backend, r->options->one_batch, &r->trainer));
    r->trainer->interrupted = r->options->interrupted;
    BN_TRY(r->from ? restore(r) : bn_trainer_start(r->trainer));
    if (!r->settled && !at_end(r))
        BN_TRY(bn_saver_check_space(&r->saver, r->trainer, folder_mode(r) == BN_FOLDER_OVERWRITE));
    BN_TRY(settle(r));
    BN_TRY(open_metrics(r));
    bn_checkpoint_close(r->from);
    r->from = NULL;
    begin_line(r);
    return BN_OK;
}

/* ---- saving ------------------------------------------------------------- */

static bn_status save(run *r, bool last)
{
    r->trainer->progress.elapsed_s = elapsed(r);
    return bn_saver_save(&r->saver, r->trainer, bn_metrics_bytes(r->metrics), last);
}

/* ---- one step's aftermath ----------------------------------------------- */

/* A layer may well stand still once the learning rate has come down. */
static void check_layers(run *r)
{
    const double learning = 0.1 * r->config->training.learning_rate;
    bn_strings lines = {0};
    bn_layer_health_check(&r->trainer->health, &r->trainer->telemetry,
                          r->trainer->progress.step_lr > learning, &lines);
    for (size_t i = 0; i < lines.count; i++)
        warn(r, bn_format("step %lld: %s", (long long)r->trainer->progress.step, lines.items[i]));
    bn_strings_clear(&lines);
}

static bn_status evaluate(run *r)
{
    bn_train_progress *p = &r->trainer->progress;
    BN_TRY(bn_trainer_evaluate(r->trainer, &r->evaluation));
    BN_TRY(bn_telemetry_measure(&r->trainer->telemetry));
    check_layers(r);
    if (!isfinite(r->evaluation.loss))
        return bn_error(BN_FAIL, "step %lld: validation loss is %g", (long long)p->step,
                        r->evaluation.loss);
    r->evaluated = true;
    if (r->evaluation.loss < p->best_val_loss) {
        p->best_val_loss = r->evaluation.loss;
        p->best_step = p->step;
        p->evals_since_best = 0;
    } else if (bn_train_strength(r->config, p->step) == BN_STRENGTH_HARD) {
        p->evals_since_best++; /* before, the model that is evaluated is not the one in training */
    }
    return BN_OK;
}

/* Lines that a full disk does not take wait for a while. */
static bn_status put_record(run *r, const bn_metrics_record *record)
{
    enum { WAITING_MAX = 1 << 20 };
    bn_status status = bn_metrics_write(r->metrics, record);
    const bool waits = status == BN_IO;
    if (waits && bn_metrics_waiting(r->metrics) <= WAITING_MAX) {
        if (!r->metrics_wait)
            warn(r, bn_format("%s; metrics wait in memory, training goes on", bn_error_text()));
        bn_error_clear();
        status = BN_OK;
    }
    if (status == BN_OK && r->metrics_wait && !waits)
        warn(r, bn_format("metrics are written again, none is lost"));
    r->metrics_wait = waits;
    return status;
}

static bn_status write_line(run *r)
{
    bn_train_progress *p = &r->trainer->progress;
    const double seconds = p->training_s - r->line_training_s;
    p->last_loss = p->loss_sum / (double)p->loss_count;
    bn_metrics_record record = {
        .step = p->step,
        .tokens_seen = p->tokens_seen,
        .loss = p->last_loss,
        .lr = p->step_lr,
        .grad_norm = p->step_grad_norm,
        .tokens_per_second =
            seconds > 0.0 ? (double)(p->tokens_seen - r->line_tokens) / seconds : 0.0,
        .device = bn_trainer_device_memory(r->trainer),
        .elapsed_s = elapsed(r),
        .strength = bn_config_strength(r->config, p->step - 1),
        .ramped = bn_config_strength(r->config, 0) < 1.0,
        .evaluated = r->evaluated,
        .classifier = bn_model_is_classifier(r->trainer->model),
    };
    if (r->evaluated) {
        record.val_loss = r->evaluation.loss;
        record.val_ppl = r->evaluation.perplexity;
        record.val_accuracy = r->evaluation.accuracy;
        record.layers = r->trainer->telemetry.stats;
        record.layer_count = r->trainer->telemetry.count;
    }
    p->loss_sum = 0.0;
    p->loss_count = 0;
    begin_line(r);
    BN_TRY(put_record(r, &record));
    if (r->options->observer.record)
        r->options->observer.record(r->options->observer.arg, &record);
    return BN_OK;
}

static bool every(int64_t interval, int64_t step)
{
    return interval > 0 && step % interval == 0;
}

static bn_status after_step(run *r)
{
    const int64_t step = r->trainer->progress.step;
    const bool last = step >= r->config->training.max_steps;
    const bool can_evaluate = bn_trainer_can_evaluate(r->trainer);
    r->evaluated = false;
    if (can_evaluate && (last || every(r->config->training.eval_interval, step))) {
        r->trainer->progress.pending = true;
        BN_TRY(evaluate(r));
        r->trainer->progress.pending = false;
    }
    if (r->evaluated || last || step == 1 || every(r->config->training.log_interval, step))
        BN_TRY(write_line(r));
    const bool best = r->evaluated && r->trainer->progress.best_step == step;
    if (best || at_end(r) || every(r->config->training.save_interval, step))
        BN_TRY(save(r, at_end(r)));
    return BN_OK;
}

/* Adds what the user can fall back on to the message of a failed step. */
static bn_status name_last_good(const run *r, bn_status status)
{
    if (status != BN_FAIL && status != BN_IO && status != BN_NO_DEVICE)
        return status;
    char *text = bn_strdup(bn_error_text());
    char *path = bn_saver_last_good(&r->saver);
    bn_error(status, "%s; %s%s%s", text ? text : "a step failed",
             path ? "last good checkpoint: " : "no checkpoint has been saved", path ? path : "",
             status == BN_NO_DEVICE && path ? " (--resume auto goes on from it, on any device)"
                                            : "");
    free(path);
    free(text);
    return status;
}

/* Stopped between two steps, or in the evaluation of the last one. */
static bn_status interrupted(run *r)
{
    BN_TRY(save(r, true));
    if (bn_metrics_flush(r->metrics) != BN_OK)
        warn(r, bn_format("the last metrics are lost: %s", bn_error_text()));
    return bn_error(BN_INTERRUPTED,
                    "stopped after step %lld, checkpoint saved in %s: --resume auto goes on",
                    (long long)r->trainer->progress.step, r->folder.path);
}

static bool wants_stop(const run *r)
{
    const bn_run_options *options = r->options;
    return (options->interrupted && options->interrupted()) ||
           (options->stop_after > 0 && r->trainer->progress.step >= options->stop_after);
}

/* ---- going back --------------------------------------------------------- */

/* Whether the step that was just made, or tried, calls for it; says so. */
static bool is_spike(run *r, double limit, double median)
{
    const bool spike =
        !isfinite(r->last.loss) || !isfinite(r->last.grad_norm) || r->last.loss > limit;
    if (spike && !r->spiking && isfinite(r->last.loss))
        warn(r, bn_format("step %lld: LOSS SPIKE: %.4f, the median of the steps before is %.4f",
                          (long long)r->trainer->progress.step, r->last.loss, median));
    r->spiking = spike;
    return spike;
}

static bn_status go_back(run *r)
{
    bn_restored restored;
    bn_train_progress *p = &r->trainer->progress;
    const double factor = p->lr_factor * r->config->training.spike_lr_factor;
    const int64_t rollbacks = p->rollbacks + 1, from = p->step;
    char *path = bn_saver_last_good(&r->saver);
    if (!path)
        return BN_FAIL;
    bn_status status = bn_checkpoint_open(path, &r->from);
    if (status == BN_OK)
        status = bn_trainer_restore(r->trainer, r->from, &restored);
    bn_checkpoint_close(r->from);
    r->from = NULL;
    if (status == BN_OK)
        status = bn_metrics_close(r->metrics);
    if (status == BN_OK) {
        r->metrics = NULL;
        status = open_metrics(r);
    }
    if (status == BN_OK) {
        p->lr_factor = factor;
        p->rollbacks = rollbacks;
        r->spiking = false;
        begin_line(r);
        warn(r, bn_format("back from step %lld to %s, with %g times the learning rate (%lld of "
                          "%lld times)",
                          (long long)from, path, factor, (long long)rollbacks,
                          (long long)r->config->training.spike_rollbacks));
    }
    free(path);
    return status;
}

/* Says where another phase of quantization begins. */
static void note_strength(const run *r)
{
    static const char *const begins[] = {[BN_STRENGTH_HARD] = "full quantization",
                                         [BN_STRENGTH_SOFT] = "the quantization ramp",
                                         [BN_STRENGTH_NONE] = "training without quantization"};
    const int64_t step = r->trainer->progress.step;
    const bn_strength now = bn_train_strength(r->config, step);
    if (now != bn_train_strength(r->config, step - 1))
        note(r, bn_format("%s begins after step %lld", begins[now], (long long)step));
}

/* One step. *back: the run has gone back instead. */
static bn_status step(run *r, bool *back)
{
    bn_train_progress *p = &r->trainer->progress;
    double median = 0.0;
    const double limit = bn_loss_limit(&p->recent, r->config->training.spike_threshold, &median);
    bn_watchdog_begin(r->watchdog, p->step + 1);
    bn_status status = bn_trainer_step(r->trainer, &r->last);
    bn_watchdog_end(r->watchdog);
    *back = (status == BN_OK || status == BN_FAIL) && is_spike(r, limit, median) &&
            r->saver.saved_step >= 0 && p->rollbacks < r->config->training.spike_rollbacks;
    if (*back && status == BN_FAIL)
        warn(r, bn_format("%s", bn_error_text()));
    if (*back)
        return go_back(r);
    if (status == BN_OK)
        note_strength(r);
    if (status == BN_OK && r->options->observer.step)
        r->options->observer.step(r->options->observer.arg, r->trainer, &r->last);
    return status;
}

/* What was to follow the step of the checkpoint belongs into it. */
static bn_status make_up(run *r)
{
    r->saver.saved_step = -1;
    BN_TRY(after_step(r));
    return save(r, at_end(r));
}

static bn_status loop(run *r)
{
    bn_status status = r->trainer->progress.pending ? make_up(r) : BN_OK;
    while (status == BN_OK && !at_end(r)) {
        bool back;
        if (wants_stop(r))
            return interrupted(r);
        BN_TRY(step(r, &back));
        if (!back)
            status = after_step(r);
    }
    if (status == BN_INTERRUPTED)
        return interrupted(r);
    BN_TRY(status);
    if (stopped_early(r))
        note(r, bn_format("stopped early at step %lld: no better validation loss since step %lld",
                          (long long)r->trainer->progress.step,
                          (long long)r->trainer->progress.best_step));
    return BN_OK;
}

/* ---- ending ------------------------------------------------------------- */

/* null where there is no such number. */
static void optional(bn_json *json, const char *key, bool known, double value)
{
    if (known)
        bn_json_double(json, key, value);
    else
        bn_json_null(json, key);
}

/* The best checkpoint, or the last one where the best is not here: it may lie
 * in another folder, which the run went on from. The caller frees *path. */
static bn_status best_path(const run *r, char **path)
{
    const bn_train_progress *p = &r->trainer->progress;
    *path = NULL;
    if (p->best_step >= 0) {
        *path = bn_checkpoint_path(r->folder.path, p->best_step);
        if (!*path || bn_fs_exists(*path))
            return *path ? BN_OK : BN_FAIL;
        free(*path);
    }
    *path = bn_checkpoint_path(r->folder.path, p->step);
    return *path ? BN_OK : BN_FAIL;
}

/* The device that made the last step, and the one that was lost before. */
static void write_devices(const run *r, bn_json *json)
{
    const char *first = r->options->device ? r->options->device : r->first_device;
    bn_json_string(json, "device", r->cpu ? r->cpu_text : first);
    if (r->cpu) {
        bn_json_string(json, "lost_device", first);
        bn_json_int(json, "fallback_step", r->lost_step);
    }
}

static bn_status summarize(run *r, char **out)
{
    bn_trainer *t = r->trainer;
    const bn_train_progress *p = &t->progress;
    const bool evaluated = bn_trainer_can_evaluate(t);
    if (evaluated && !r->evaluated) /* resumed when all was done */
        BN_TRY(bn_trainer_evaluate(t, &r->evaluation));
    char *path;
    BN_TRY(best_path(r, &path));
    const bn_evaluation *e = &r->evaluation;
    const bn_device_memory memory = bn_trainer_device_memory(t);
    bn_json json = {.indent = 2};
    bn_json_object(&json, NULL);
    bn_json_int(&json, "steps", p->step);
    bn_json_double(&json, "train_loss", p->last_loss);
    optional(&json, "val_loss", evaluated, e->loss);
    if (bn_model_is_classifier(t->model))
        optional(&json, "val_accuracy", evaluated, e->accuracy);
    else
        optional(&json, "bits_per_byte", evaluated, e->bits_per_byte);
    optional(&json, "best_val_loss", p->best_step >= 0, p->best_val_loss);
    bn_json_int(&json, "best_step", p->best_step);
    bn_json_double(&json, "tokens_per_second", (double)p->tokens_seen / p->training_s);
    bn_json_int(&json, "tokens_seen", p->tokens_seen);
    bn_json_double(&json, "elapsed_s", elapsed(r));
    bn_json_int(&json, "start_rss_bytes", (int64_t)r->start_rss);
    bn_json_int(&json, "peak_rss_bytes", (int64_t)bn_peak_resident_bytes());
    bn_json_int(&json, "device_bytes", (int64_t)memory.bytes);
    bn_json_int(&json, "peak_device_bytes", (int64_t)memory.peak_bytes);
    bn_json_double(&json, "device_fragmentation", memory.fragmentation);
    write_devices(r, &json);
    bn_json_int(&json, "parameters", bn_trainer_parameters(t));
    bn_json_int(&json, "trainable_parameters", bn_param_set_trainable(t->params));
    bn_json_string(&json, "checkpoint", path);
    bn_json_object_end(&json);
    free(path);
    return bn_json_take(&json, out);
}

static bn_status finish(run *r, char **summary)
{
    char *text;
    BN_TRY(save(r, true));
    BN_TRY(bn_metrics_flush(r->metrics));
    BN_TRY(summarize(r, &text));
    bn_status status = bn_run_folder_write(&r->folder, "summary.json", text);
    if (status == BN_OK)
        *summary = text;
    else
        free(text);
    return status;
}

/* From the first step to be made to the summary, on one device. */
static bn_status sit(run *r, bn_backend *backend, char **summary)
{
    const double limit = r->config->training.watchdog_seconds;
    BN_TRY(begin(r, backend));
    if (r->options->catch_signals && !r->catching)
        BN_TRY(r->options->catch_signals());
    r->catching = true;
    if (limit > 0.0 && r->options->hung)
        BN_TRY(bn_watchdog_new(limit, r->options->hung, r->options->hung_arg, &r->watchdog));
    bn_status status = loop(r);
    bn_watchdog_free(r->watchdog);
    r->watchdog = NULL;
    if (status == BN_OK)
        status = finish(r, summary);
    return name_last_good(r, status);
}

/* ---- a lost device ------------------------------------------------------ */

static bn_status leave(run *r)
{
    bn_status status = bn_metrics_close(r->metrics);
    bn_checkpoint_close(r->from);
    bn_trainer_free(r->trainer);
    r->metrics = NULL;
    r->from = NULL;
    r->trainer = NULL;
    return status;
}

/* What the run goes on from: its own last checkpoint, else what it started from. */
static bn_status reopen_checkpoint(run *r)
{
    if (r->saver.saved_step >= 0) {
        free(r->from_path);
        r->from_path = bn_saver_last_good(&r->saver);
        if (!r->from_path)
            return BN_FAIL;
    }
    if (r->from_path)
        BN_TRY(bn_checkpoint_open(r->from_path, &r->from));
    r->lost_step = r->from ? bn_checkpoint_state(r->from)->step : 0;
    return BN_OK;
}

static bn_status fall_back(run *r, char **summary)
{
    const bn_device_options options = {.threads = (int)r->config->training.threads,
                                       .memory_limit = r->options->memory_limit};
    char *why = bn_strdup(bn_error_text());
    bn_status status = why ? leave(r) : BN_FAIL;
    if (status == BN_OK)
        status = bn_device_open("cpu", &options, &r->cpu, &r->cpu_text);
    if (status == BN_OK)
        status = reopen_checkpoint(r);
    if (status == BN_OK)
        warn(r, bn_format("DEVICE LOST: %s; training.device_fallback: going on on %s from step "
                          "%lld%s%s",
                          why, r->cpu_text, (long long)r->lost_step, r->from ? " of " : "",
                          r->from ? r->from_path : ", the start"));
    free(why);
    return status == BN_OK ? sit(r, r->cpu, summary) : status;
}

static bn_status close_run(run *r)
{
    bn_status status = leave(r);
    bn_backend_free(r->cpu);
    free(r->cpu_text);
    free(r->from_path);
    bn_train_data_clear(&r->data);
    bn_run_folder_close(&r->folder);
    return status;
}

bn_status bn_run_train(const bn_config *config, bn_backend *backend, const bn_run_options *options,
                       char **summary)
{
    bn_status status = BN_OK;
    run r = {.config = config,
             .options = options,
             .first_device = backend->name,
             .folder = {.lock = -1},
             .saver = {.observer = &options->observer,
                       .limit = config->training.save_total_limit,
                       .saved_step = -1}};
    r.saver.folder = &r.folder;
    *summary = NULL;
    BN_TRY_OUT(prepare(&r));
    status = sit(&r, backend, summary);
    if (status == BN_NO_DEVICE && config->training.device_fallback)
        status = fall_back(&r, summary);
out:
    if (status != BN_OK) {
        bn_status ignored = close_run(&r);
        (void)ignored; /* the first error is the one to report */
        return status;
    }
    status = close_run(&r);
    if (status != BN_OK) {
        free(*summary);
        *summary = NULL;
    }
    return status;
}
