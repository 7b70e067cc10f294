#include "train/tune.h"

#include "base/timer.h"

enum {
    MAX_CANDIDATES = 8,
    ROUNDS = 6, /* the candidates take turns, so that a slow moment hits all of them */
};
static const double gain = 0.02; /* below it a difference may be noise */

static bn_status time_step(bn_trainer *trainer, double *seconds)
{
    bn_step_result ignored;
    const double start = bn_seconds();
    BN_TRY(bn_trainer_step(trainer, &ignored));
    BN_TRY(trainer->backend->sync(trainer->backend));
    *seconds = bn_seconds() - start;
    return BN_OK;
}

/* Fastest step with each candidate; the first round only builds kernels. */
static bn_status time_candidates(bn_trainer *trainer, bn_choice *choice, int n,
                                 double best[MAX_CANDIDATES])
{
    for (int round = 0; round <= ROUNDS; round++)
        for (int i = 0; i < n; i++) {
            double seconds;
            choice->value = choice->candidates[i];
            BN_TRY(time_step(trainer, &seconds));
            if (round <= 1 || seconds < best[i])
                best[i] = seconds;
        }
    return BN_OK;
}

static bn_status settle(bn_trainer *trainer, bn_choice *choice, bn_text *report)
{
    const int before = choice->value;
    double best[MAX_CANDIDATES] = {0};
    int n = 0, taken = 0;
    while (n < MAX_CANDIDATES && choice->candidates[n])
        n++;
    bn_status status = time_candidates(trainer, choice, n, best);
    choice->value = before;
    BN_TRY(status);
    for (int i = 0; i < n; i++)
        if (choice->candidates[i] == choice->standard)
            taken = i;
    for (int i = 0, standard = taken; i < n; i++)
        if (best[i] < best[taken] && best[i] < (1 - gain) * best[standard])
            taken = i;
    choice->value = choice->candidates[taken];
    bn_text_addf(report, "%-18s %8d%s (ms per step:", choice->name, choice->value,
                 choice->value == choice->standard ? ", the default" : "");
    for (int i = 0; i < n; i++)
        bn_text_addf(report, "%s %d %.2f", i ? "," : "", choice->candidates[i], 1e3 * best[i]);
    bn_text_add(report, ")\n");
    return BN_OK;
}

bn_status bn_tune(const bn_config *config, bn_backend *backend, bn_text *report)
{
    bn_train_data data = {0};
    bn_trainer *trainer = NULL;
    if (backend->n_choices == 0)
        return bn_error(BN_USAGE, "--tune: device %s has nothing to choose", backend->name);
    BN_TRY(bn_train_data_open(config, &data));
    bn_status status = bn_trainer_new(config, &data, backend, true, &trainer);
    for (int i = 0; status == BN_OK && i < backend->n_choices; i++)
        backend->choices[i].value = backend->choices[i].standard;
    for (int i = 0; status == BN_OK && i < backend->n_choices; i++)
        status = settle(trainer, &backend->choices[i], report);
    if (status == BN_OK)
        status = backend->keep_choices(backend);
    bn_trainer_free(trainer);
    bn_train_data_clear(&data);
    return status;
}
