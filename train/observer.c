#include "train/observer.h"

#include <stdlib.h>

void bn_observer_note(const bn_run_observer *observer, char *text)
{
    if (text && observer->note)
        observer->note(observer->arg, text);
    free(text);
}

void bn_observer_warn(const bn_run_observer *observer, char *text)
{
    if (text && observer->warning)
        observer->warning(observer->arg, text);
    free(text);
}
