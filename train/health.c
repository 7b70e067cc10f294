#include "train/health.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- spikes ------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts x. */
static double median_of(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

double bn_loss_limit(const bn_loss_window *w, double threshold, double *median)
{
    const double to_sigma = 1.4826, least = 0.01;
    double x[BN_HEALTH_WINDOW];
    const int64_t n = w->count < BN_HEALTH_WINDOW ? w->count : BN_HEALTH_WINDOW;
    if (n < BN_HEALTH_ENOUGH || threshold <= 0.0)
        return (double)INFINITY;
    memcpy(x, w->losses, (size_t)n * sizeof *x);
    const double middle = median_of(x, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = fabs(x[i] - middle);
    const double deviation = fmax(to_sigma * median_of(x, n), least * fabs(middle));
    if (median)
        *median = middle;
    return middle + threshold * deviation;
}

void bn_loss_window_add(bn_loss_window *w, double loss)
{
    w->losses[w->count++ % BN_HEALTH_WINDOW] = loss;
}

/* ---- layers ------------------------------------------------------------- */

bn_status bn_layer_health_init(bn_layer_health *out, int layers)
{
    *out = (bn_layer_health){.count = layers};
    out->still = calloc((size_t)layers + 1, sizeof *out->still);
    out->told = calloc((size_t)layers + 1, sizeof *out->told);
    if (out->still && out->told)
        return BN_OK;
    bn_layer_health_clear(out);
    return bn_error_nomem("the health of layers", (size_t)layers * sizeof *out->still);
}

void bn_layer_health_clear(bn_layer_health *h)
{
    free(h->still);
    free(h->told);
    *h = (bn_layer_health){0};
}

void bn_layer_health_check(bn_layer_health *h, const bn_telemetry *telemetry, bool learning,
                           bn_strings *out)
{
    enum { STUCK_AFTER = 3 };
    const double dead_from = 0.99;
    for (int i = 0; i < h->count; i++) {
        const bn_layer_stats *s = &telemetry->stats[i];
        char *text = NULL;
        const bool still = learning && !s->frozen && s->flip_rate == 0.0;
        h->still[i] = still ? h->still[i] + 1 : 0;
        if (h->told[i])
            continue;
        if (s->zero_share >= dead_from)
            text = bn_format("DEAD LAYER: %s: %.2f %% of its codes are 0", s->name,
                             100.0 * s->zero_share);
        else if (h->still[i] >= STUCK_AFTER)
            text = bn_format("STUCK LAYER: %s: no ternary code has changed over %d evaluations",
                             s->name, h->still[i]);
        h->told[i] = text && bn_strings_add(out, text) == BN_OK;
        free(text);
    }
}
