/* File operations that fail (fault_sweep.h). */
#include "fault_sweep.h"

#include <errno.h>

#include "base/fs.h"

static const bn_fs_ops *real;

static bool refuse(void)
{
    const bool refused = fault_strikes(FILE_OPERATION);
    if (refused)
        errno = EIO;
    return refused;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
    return refuse() ? -1 : real->open(path, flags, mode);
}

static ssize_t faulty_write(int fd, const void *data, size_t size)
{
    return refuse() ? -1 : real->write(fd, data, size);
}

static int faulty_fsync(int fd)
{
    (void)fd; /* the test is of what follows, not of the disk */
    return refuse() ? -1 : 0;
}

static int faulty_ftruncate(int fd, off_t size)
{
    return refuse() ? -1 : real->ftruncate(fd, size);
}

static int faulty_close(int fd)
{
    const int result = real->close(fd);
    return refuse() ? -1 : result;
}

static int faulty_rename(const char *from, const char *to)
{
    return refuse() ? -1 : real->rename(from, to);
}

static int faulty_unlink(const char *path)
{
    if (!refuse())
        return real->unlink(path);
    fault.removing = true;
    return -1;
}

static int faulty_mkdir(const char *path, mode_t mode)
{
    return refuse() ? -1 : real->mkdir(path, mode);
}

static int faulty_statvfs(const char *path, struct statvfs *out)
{
    return refuse() ? -1 : real->statvfs(path, out);
}

static const bn_fs_ops faulty = {
    faulty_open,   faulty_write,  faulty_fsync, faulty_ftruncate, faulty_close,
    faulty_rename, faulty_unlink, faulty_mkdir, faulty_statvfs,
};

void fault_watch_files(bool on)
{
    if (on)
        real = bn_fs_set_ops(&faulty);
    else
        bn_fs_set_ops(real);
}
