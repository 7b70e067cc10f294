/* Several sessions on one model, each driven by a thread of its own. */
#include <pthread.h>
#include <string.h>

#include "cpu/cpu.h"
#include "model/session.h"
#include "unit/model/model_fixture.h"

enum { VOCAB = 256, PROMPT = 21, MADE = 24, SESSIONS = 4, ROUNDS = 3 };

typedef struct job {
    bn_backend *backend;
    bn_session *session;
    int32_t first; /* of the prompt */
    int32_t ids[PROMPT + MADE];
    float logits[VOCAB];
    bn_status status;
    char error[200];
} job;

/* Greedy tokens after the job's prompt. */
static void *generate(void *arg)
{
    job *j = arg;
    bn_session_rewind(j->session, 0);
    for (int i = 0; i < PROMPT; i++)
        j->ids[i] = (j->first + 7 * i) % VOCAB;
    j->status = bn_session_feed(j->session, j->ids, PROMPT, j->logits);
    for (int i = PROMPT; i < PROMPT + MADE && j->status == BN_OK; i++) {
        j->ids[i] = fixture_argmax(j->logits, VOCAB);
        j->status = bn_session_feed(j->session, &j->ids[i], 1, j->logits);
    }
    if (j->status != BN_OK) /* the text is this thread's own */
        strncpy(j->error, bn_error_text(), sizeof j->error - 1);
    return NULL;
}

static void check_variant(const char *set, bool arranged)
{
    fixture f;
    job jobs[SESSIONS] = {0}, alone[SESSIONS] = {0};
    bn_session *own;
    fixture_open(&f, set);
    fixture_train(&f, 3);
    assert_ok(bn_model_pack(f.model));
    if (arranged)
        assert_ok(bn_model_arrange(f.model));
    assert_ok(bn_session_new(f.model, PROMPT + MADE, &own));
    for (int i = 0; i < SESSIONS; i++) {
        alone[i].session = own;
        alone[i].first = 11 * i;
        generate(&alone[i]);
        assert_int_equal(alone[i].status, BN_OK);
        jobs[i].first = alone[i].first;
        assert_ok(bn_cpu_backend_new(&(bn_cpu_options){.threads = 1 + i % 2}, &jobs[i].backend));
        assert_ok(bn_session_new_with(
            f.model, &(bn_session_options){.backend = jobs[i].backend, .positions = PROMPT + MADE},
            &jobs[i].session));
    }
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[SESSIONS];
        for (int i = 0; i < SESSIONS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, generate, &jobs[i]), 0);
        for (int i = 0; i < SESSIONS; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (int i = 0; i < SESSIONS; i++) {
            if (jobs[i].status != BN_OK)
                fail_msg("session %d: %s", i, jobs[i].error);
            assert_memory_equal(jobs[i].ids, alone[i].ids, sizeof alone[i].ids);
            assert_memory_equal(jobs[i].logits, alone[i].logits, sizeof alone[i].logits);
        }
    }
    for (int i = 0; i < SESSIONS; i++) {
        bn_session_free(jobs[i].session);
        bn_backend_free(jobs[i].backend);
    }
    bn_session_free(own);
    fixture_close(&f);
}

static void test_sessions_side_by_side(void **state)
{
    (void)state;
    check_variant(NULL, false);
    check_variant("model.tie_word_embeddings=false", true);
    check_variant("quantization.weight_bits=none", false);
}

static void test_foreign_memory_is_refused(void **state)
{
    (void)state;
    fixture f;
    bn_backend *other;
    bn_session *session;
    fixture_open(&f, NULL);
    assert_ok(bn_model_pack(f.model));
    assert_ok(bn_ref_backend_new(BN_F64, &other));
    assert_int_equal(bn_session_new_with(f.model,
                                         &(bn_session_options){.backend = other, .positions = 0},
                                         &session),
                     BN_USAGE);
    assert_null(session);
    assert_non_null(strstr(bn_error_text(), "a session on ref64"));
    bn_backend_free(other);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_side_by_side),
        cmocka_unit_test(test_foreign_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
