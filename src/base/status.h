/* status.h - the one error record of the library.
 *
 * Every fallible function returns a bn_status. The function that detects a
 * problem writes one line of text with the values in it through bn_error() and
 * returns its status; everyone above only passes the status on (BN_TRY). The
 * text is thread-local and stays until the next bn_error() of that thread;
 * line breaks in it become blanks and control characters '?'.
 * Nothing below a main prints, exits or aborts.
 *
 * The enumerators are the exit codes of the programs (docs: README, "Exit
 * codes"), so a main ends with `return (int)status`.
 */
#ifndef BN_BASE_STATUS_H
#define BN_BASE_STATUS_H

#include <stdarg.h>

typedef enum bn_status {
    BN_OK = 0,
    BN_FAIL = 1,         /* runtime failure, out of memory included */
    BN_USAGE = 2,        /* bad command line */
    BN_MISMATCH = 3,     /* verification or self-test found a difference */
    BN_BAD_DATA = 65,    /* a data or model file is not what it should be */
    BN_NO_INPUT = 66,    /* an input file is missing or unreadable */
    BN_NO_DEVICE = 69,   /* no usable compute device */
    BN_IO = 74,          /* I/O error, disk full */
    BN_INTERRUPTED = 75, /* stopped by a signal, checkpoint saved */
    BN_BAD_CONFIG = 78,  /* bad configuration */
} bn_status;

#define BN_MUST_CHECK         __attribute__((warn_unused_result))
#define BN_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Return early with the callee's status; the error record is left as it is. */
#define BN_TRY(expr)                                                                               \
    do {                                                                                           \
        bn_status bn_try_status_ = (expr);                                                         \
        if (bn_try_status_ != BN_OK)                                                               \
            return bn_try_status_;                                                                 \
    } while (0)

/* As BN_TRY inside a function that owns resources: `status` is its local
 * variable and `out:` its single exit label. */
#define BN_TRY_OUT(expr)                                                                           \
    do {                                                                                           \
        status = (expr);                                                                           \
        if (status != BN_OK)                                                                       \
            goto out;                                                                              \
    } while (0)

/* Writes the record and returns `status`. */
bn_status bn_error(bn_status status, const char *fmt, ...) BN_PRINTF(2, 3);

/* Puts "context: " before the present text (a file name, say) and returns
 * `status` unchanged; does nothing for BN_OK, nor where it is there already. */
bn_status bn_error_in(bn_status status, const char *context);

/* bn_error() for a failed allocation of `bytes` for `what`; returns BN_FAIL. */
bn_status bn_error_nomem(const char *what, unsigned long long bytes);

/* Text of the last error of this thread, "" if none. */
const char *bn_error_text(void);

void bn_error_clear(void);

#endif
