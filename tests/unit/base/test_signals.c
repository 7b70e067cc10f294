/* The first SIGINT or SIGTERM is polled, the second one ends the process. */
#include "cmocka_all.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/signals.h"

static void test_first_is_polled(void **state)
{
    (void)state;
    assert_ok(bn_signals_install());
    assert_int_equal(bn_signals_received(), 0);
    assert_ok(bn_signals_poll());
    raise(SIGTERM);
    assert_int_equal(bn_signals_received(), SIGTERM);
    assert_int_equal(bn_signals_poll(), BN_INTERRUPTED);
    assert_string_equal(bn_error_text(), "interrupted");
    assert_ok(bn_signals_install());
    assert_int_equal(bn_signals_received(), 0);
    raise(SIGINT);
    assert_int_equal(bn_signals_received(), SIGINT);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

static void assert_second_kills(int first, int second)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (bn_signals_install() == BN_OK && raise(first) == 0 && bn_signals_received() == first)
            raise(second);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), second);
}

static void test_second_kills(void **state)
{
    (void)state;
    assert_second_kills(SIGINT, SIGINT);
    assert_second_kills(SIGINT, SIGTERM);
    assert_second_kills(SIGTERM, SIGINT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_is_polled),
        cmocka_unit_test(test_second_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
