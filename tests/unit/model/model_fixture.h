/* model_fixture.h - small models for tests: random, briefly trained, saved. */
#ifndef BN_TESTS_MODEL_FIXTURE_H
#define BN_TESTS_MODEL_FIXTURE_H

#include "cmocka_all.h"
#include "model/load.h"

typedef struct fixture {
    bn_config config;
    bn_backend *backend;
    bn_model *model;
} fixture;

/* hidden 64, 2 layers, 4 heads, 2 of them for keys and values, FFN 96, 160
 * positions, byte vocabulary, groups of 32, on "cpu"; then the settings given
 * ("model.hidden_act=silu"), NULL at the end. */
void fixture_config(bn_config *config, ...);

/* A model of fixture_config(), random weights large enough that logits are far
 * apart, not packed. `set` may be NULL. */
void fixture_open(fixture *f, const char *set);
void fixture_close(fixture *f);

/* `steps` of AdamW on a text with a simple rule. The model must not be packed. */
void fixture_train(fixture *f, int steps);

/* Byte `i` of that text. */
int32_t fixture_token(int64_t i);

/* Saves the model as a training checkpoint of step 7. */
void fixture_save(const fixture *f, const char *path);

/* Saves chosen parameters; `config_json` NULL: the fixture's. */
void fixture_save_params(const fixture *f, const char *path, const bn_checkpoint_param *params,
                         int count, const char *config_json, const char *tokenizer);

/* The model's parameters in host memory, freed by fixture_params_free(). */
bn_checkpoint_param *fixture_params(const bn_model *model, int *count);
void fixture_params_free(bn_checkpoint_param *params, int count);

/* Packs the model (bn_model_pack) and writes it. */
void fixture_save_packed(fixture *f, const char *path);

/* Logits [time, vocab] of whole rows on a fresh tape; the caller frees. */
float *fixture_full_logits(const bn_model *model, const int32_t *ids, int64_t time);

int32_t fixture_argmax(const float *logits, int64_t n);

#endif
