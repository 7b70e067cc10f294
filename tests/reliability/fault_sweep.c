#include "fault_sweep.h"

#define H5_USE_110_API
#include <hdf5.h>

#include "cmocka_all.h"

fault_plan fault;

bool fault_strikes(fault_kind kind)
{
    return fault.fail_at && fault.kind == kind && ++fault.calls == fault.fail_at;
}

const char *fault_place(const char *what, long k)
{
    static const char *const names[FAULT_KINDS] = {"allocation", "file operation", "HDF5 call"};
    static char text[128];
    snprintf(text, sizeof text, "%s, %s %ld", what, names[fault.kind], k);
    return text;
}

static bool possible(fault_kind kind, bn_status status)
{
    switch (status) {
    case BN_OK: /* a note that found no memory, a line of metrics that came later */
    case BN_FAIL:
        return true;
    case BN_IO:
    case BN_NO_INPUT:
    case BN_BAD_DATA:
    case BN_MISMATCH: /* an export that cannot read back what it wrote */
        return kind != ALLOCATION;
    default:
        return false;
    }
}

long fault_sweep(const fault_work *work, fault_kind kind, long step)
{
    long failed = 0;
    for (long k = 1;; k += step, failed++) {
        if (work->before)
            work->before();
        bn_error_clear();
        fault = (fault_plan){.kind = kind};
        fault_watch_files(true);
        fault.fail_at = k;
        const bn_status status = work->run();
        fault.fail_at = 0;
        fault_watch_files(false);
        if (fault.calls < k) {
            assert_ok(status);
            print_message("%s: the last of %ld that have failed\n",
                          fault_place(work->what, failed ? k - step : 0), failed);
            return failed;
        }
        if (!possible(kind, status) || (status != BN_OK && !*bn_error_text()))
            fail_msg("%s: status %d: %s", fault_place(work->what, k), (int)status, bn_error_text());
        if (H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) != 0)
            fail_msg("%s: an HDF5 object is still open", fault_place(work->what, k));
        if (work->after)
            work->after(work->what, k, status);
    }
}
