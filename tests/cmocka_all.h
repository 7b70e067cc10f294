/* cmocka_all.h - cmocka with the headers it wants before it. */
#ifndef BN_TESTS_CMOCKA_ALL_H
#define BN_TESTS_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"

/* Asserts BN_OK and shows the error text otherwise. */
#define assert_ok(expr)                                                        \
    do {                                                                       \
        bn_status assert_ok_status_ = (expr);                                  \
        if (assert_ok_status_ != BN_OK)                                        \
            fail_msg("%s: status %d: %s", #expr, assert_ok_status_, bn_error_text()); \
    } while (0)

#endif
