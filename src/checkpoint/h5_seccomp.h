/* h5_seccomp.h - the system calls that a child which reads a file needs.
 * Private to this folder. */
#ifndef BN_CHECKPOINT_H5_SECCOMP_H
#define BN_CHECKPOINT_H5_SECCOMP_H

/* From now on this process may read files, use memory and talk over the
 * sockets it has; every other system call fails with EPERM. Does nothing where
 * the kernel or the machine is not known. */
void bn_h5_seccomp(void);

#endif
