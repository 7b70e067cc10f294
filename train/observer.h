/* observer.h - who is told what happens in a run. */
#ifndef BN_TRAIN_OBSERVER_H
#define BN_TRAIN_OBSERVER_H

#include "train/metrics.h"
#include "train/trainer.h"

/* All may be NULL. Called between steps, from the caller's thread. */
typedef struct bn_run_observer {
    void *arg;
    void (*note)(void *arg, const char *text);    /* one line, without newline */
    void (*warning)(void *arg, const char *text); /* the same, to be shown in any case */
    void (*step)(void *arg, const bn_trainer *trainer, const bn_step_result *result);
    void (*record)(void *arg, const bn_metrics_record *record);
} bn_run_observer;

/* Hands over a malloc'd text and frees it; NULL (no memory for it) says nothing. */
void bn_observer_note(const bn_run_observer *observer, char *text);
void bn_observer_warn(const bn_run_observer *observer, char *text);

#endif
