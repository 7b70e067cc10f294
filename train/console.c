#include "train/console.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/timer.h"

bn_console bn_console_of(const bn_config *config, bool quiet)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bool terminal = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
    return (bn_console){
        .max_steps = config->training.max_steps,
        .quiet = quiet,
        .terminal = terminal,
        .colour = terminal && !(no_color && *no_color),
        .first_step = -1,
    };
}

void bn_console_finish(bn_console *console)
{
    if (console->open)
        fputs("\r\033[K", stderr);
    console->open = false;
}

static void show_note(void *arg, const char *text)
{
    bn_console *console = arg;
    if (console->quiet)
        return;
    bn_console_finish(console);
    fprintf(stderr, "%s\n", text);
}

static void show_warning(void *arg, const char *text)
{
    bn_console_finish(arg);
    fprintf(stderr, "warning: %s\n", text);
}

/* "1:02:03" or "2:03" */
static void clock_text(double seconds, char *out, size_t size)
{
    long long s = seconds > 0.0 ? (long long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(out, size, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%lld:%02lld", s / 60, s % 60);
}

static void draw(bn_console *console, const bn_trainer *trainer, const bn_step_result *result,
                 double now)
{
    enum { WIDTH = 24 };
    char bar[WIDTH + 1], eta[32];
    const int64_t step = trainer->progress.step, total = console->max_steps;
    const int filled = (int)(WIDTH * step / total);
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%s[%s]%s %lld/%lld  loss %.4f  lr %.2e", console->colour ? "\033[32m" : "",
            bar, console->colour ? "\033[0m" : "", (long long)step, (long long)total, console->loss,
            result->lr);
    if (step > console->first_step) { /* one step alone has no duration */
        const double per_step = (now - console->started) / (double)(step - console->first_step);
        clock_text(per_step * (double)(total - step), eta, sizeof eta);
        fprintf(stderr, "  %.0f tok/s  eta %s",
                (double)bn_tokens_per_step(trainer->config) / per_step, eta);
    }
    fputs("\033[K", stderr);
    fflush(stderr);
    console->open = true;
}

static void show_step(void *arg, const bn_trainer *trainer, const bn_step_result *result)
{
    bn_console *console = arg;
    console->steps++;
    console->batch_bytes += bn_trainer_batch_bytes(trainer);
    console->upload_bytes += result->upload_bytes;
    console->download_bytes += result->download_bytes;
    if (console->quiet || !console->terminal)
        return;
    const double now = bn_seconds();
    if (console->first_step < 0) {
        console->first_step = trainer->progress.step;
        console->started = now;
        console->loss = result->loss;
    }
    console->loss += 0.1 * (result->loss - console->loss);
    if (now - console->drawn < 0.1 && trainer->progress.step < console->max_steps)
        return;
    console->drawn = now;
    draw(console, trainer, result, now);
}

void bn_console_traffic(const bn_console *console, bn_text *out)
{
    const uint64_t steps = console->steps ? console->steps : 1;
    bn_text_addf(out,
                 "per step: %llu bytes of batches to the device, %llu further ones, %llu back\n",
                 (unsigned long long)(console->batch_bytes / steps),
                 (unsigned long long)((console->upload_bytes - console->batch_bytes) / steps),
                 (unsigned long long)(console->download_bytes / steps));
}

static void show_record(void *arg, const bn_metrics_record *record)
{
    char now[BN_SIZE_TEXT], most[BN_SIZE_TEXT];
    bn_console *console = arg;
    if (console->quiet || (console->terminal && !record->evaluated))
        return;
    bn_console_finish(console);
    fprintf(stderr, "step %lld/%lld  loss %.4f", (long long)record->step,
            (long long)console->max_steps, record->loss);
    if (record->evaluated)
        fprintf(stderr, "  val_loss %.4f  val_ppl %.3f", record->val_loss, record->val_ppl);
    if (record->evaluated && record->classifier)
        fprintf(stderr, "  val_accuracy %.4f", record->val_accuracy);
    fprintf(stderr, "  lr %.2e  grad_norm %.3f  %.0f tok/s  %.1f s", record->lr, record->grad_norm,
            record->tokens_per_second, record->elapsed_s);
    fprintf(stderr, "  memory %s, at most %s, %.1f %% gaps\n",
            bn_size_text(record->device.bytes, now), bn_size_text(record->device.peak_bytes, most),
            100.0 * record->device.fragmentation);
}

bn_run_observer bn_console_observer(bn_console *console)
{
    return (bn_run_observer){.arg = console,
                             .note = show_note,
                             .warning = show_warning,
                             .step = show_step,
                             .record = show_record};
}
