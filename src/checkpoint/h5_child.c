/* Reading a file in a child process (bn_h5_distrust() of h5file.h).
 *
 * The child opens the file and answers requests over a socket until the socket
 * is closed; HDF5 runs in it alone. The parent takes nothing of what comes back
 * at its word: names, types, shapes and lengths are checked again, so a child
 * that a file has taken over can do no more than lie about numbers.
 *
 * An answer is any number of pieces, each a length > 0 and so many bytes, then
 * a length 0 and a reply.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "checkpoint/h5impl.h"
#include "checkpoint/h5_seccomp.h"

struct bn_h5_child {
    pid_t pid;
    int socket;
};

const bn_h5_limits bn_h5_default_limits = {
    .memory_bytes = 256 << 20, .cpu_seconds = 10, .bytes_per_second = 16 << 20};

static bn_h5_limits limits;
static bool wanted;

void bn_h5_distrust(const bn_h5_limits *use)
{
    wanted = use != NULL;
    if (use)
        limits = *use;
}

bool bn_h5_child_wanted(void)
{
    return wanted;
}

/* ---- what goes over the socket ---- */

typedef enum op { OP_ENTRIES, OP_READ, OP_VERIFY, OP_HAS_ATTR, OP_ATTR } op;

typedef struct request {
    op op;
    int index; /* of an array */
    bool root; /* attribute of the root, not of `object` */
    char object[BN_H5_NAME_MAX + 1], name[BN_H5_ATTR_NAME_MAX + 1];
} request;

typedef struct reply {
    bn_status status;
    int64_t number; /* entries; whether an attribute is there; its count */
    int kind;
    bool scalar;
    char text[1024]; /* of an error */
} reply;

static bool send_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        const ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool receive_all(int fd, void *data, size_t size)
{
    char *at = data;
    while (size > 0) {
        const ssize_t n = recv(fd, at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* ---- the child ---- */

static bn_status send_piece(void *arg, const void *data, size_t bytes)
{
    const int fd = *(const int *)arg;
    const uint64_t length = bytes;
    if (!send_all(fd, &length, sizeof length) || !send_all(fd, data, bytes))
        return bn_error(BN_IO, "the other end is gone");
    return BN_OK;
}

static bn_status answer_attr(bn_h5_reader *r, const request *q, int fd, reply *a)
{
    bn_h5_attr v;
    BN_TRY(bn_h5_attr_get(r, q->root ? NULL : q->object, q->name, &v));
    const size_t bytes = bn_h5_attr_bytes(&v);
    const bn_status status = bytes ? send_piece(&fd, v.bytes, bytes) : BN_OK;
    a->number = v.count;
    a->kind = (int)v.kind;
    a->scalar = v.scalar;
    free(v.bytes);
    return status;
}

static bn_status answer(bn_h5_reader *r, const request *q, int fd, reply *a)
{
    switch (q->op) {
    case OP_ENTRIES:
        a->number = r->count;
        return r->count ? send_piece(&fd, r->entries, (size_t)r->count * sizeof *r->entries)
                        : BN_OK;
    case OP_READ:
        return bn_h5_read_pieces(r, &r->entries[q->index], send_piece, &fd);
    case OP_VERIFY:
        return bn_h5_verify(r);
    case OP_HAS_ATTR:
        a->number = bn_h5_has_attr(r, q->root ? NULL : q->object, q->name);
        return BN_OK;
    case OP_ATTR:
        return answer_attr(r, q, fd, a);
    }
    return BN_OK;
}

static void serve(const char *path, int fd)
{
    bn_h5_reader *r = NULL;
    request q;
    const bn_status opened = bn_h5_open_here(path, &r);
    while (receive_all(fd, &q, sizeof q)) {
        const uint64_t end = 0;
        reply a = {.status = opened};
        if (opened == BN_OK)
            a.status = answer(r, &q, fd, &a);
        snprintf(a.text, sizeof a.text, "%s", bn_error_text());
        if (!send_all(fd, &end, sizeof end) || !send_all(fd, &a, sizeof a))
            break;
    }
}

static void limit(__rlimit_resource_t what, uint64_t value)
{
    const struct rlimit both = {(rlim_t)value, (rlim_t)value};
    setrlimit(what, &both);
}

/* Address space of this process in bytes. */
static uint64_t memory_in_use(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%llu", &pages) != 1)
            pages = 0;
        fclose(file);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Nothing but the socket stays open, and no more than reading is possible. */
static void lock_up(const char *path, int *fd)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU, SIGTERM};
    struct stat st;
    uint64_t seconds = limits.cpu_seconds;
    if (limits.bytes_per_second && stat(path, &st) == 0)
        seconds += (uint64_t)st.st_size / limits.bytes_per_second;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < (int)(sizeof deadly / sizeof *deadly); i++)
        signal(deadly[i], SIG_DFL);
    signal(SIGINT, SIG_IGN); /* the parent decides */
    const int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    dup2(*fd, 3);
    *fd = 3;
    closefrom(4);
    limit(RLIMIT_AS, memory_in_use() + limits.memory_bytes);
    limit(RLIMIT_CPU, seconds);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NPROC, 0);
    bn_h5_seccomp();
}

/* ---- the parent ---- */

static bn_status ended(const bn_h5_reader *r)
{
    struct bn_h5_child *child = r->child;
    int how = 0;
    if (child->pid > 0)
        while (waitpid(child->pid, &how, 0) < 0 && errno == EINTR)
            ;
    child->pid = 0;
    if (WIFSIGNALED(how) && (WTERMSIG(how) == SIGXCPU || WTERMSIG(how) == SIGKILL))
        return bn_error(BN_BAD_DATA,
                        "%s: refused: reading it took more processor time than allowed", r->path);
    if (WIFSIGNALED(how))
        return bn_error(BN_BAD_DATA, "%s: refused: reading it crashed (%s)", r->path,
                        strsignal(WTERMSIG(how)));
    return bn_error(BN_BAD_DATA, "%s: refused: reading it ended early", r->path);
}

/* Where the pieces of an answer go: into `data` of exactly `room` bytes, or,
 * with data NULL, into memory of at most `room` bytes that the caller frees. */
typedef struct inbox {
    unsigned char *data;
    size_t room, filled;
    bool grows;
} inbox;

static bn_status take_pieces(const bn_h5_reader *r, inbox *in)
{
    for (;;) {
        uint64_t length;
        if (!receive_all(r->child->socket, &length, sizeof length))
            return ended(r);
        if (length == 0)
            return BN_OK;
        if (length > in->room - in->filled)
            return bn_error(BN_BAD_DATA, "%s: refused: more bytes than announced", r->path);
        if (in->grows) {
            void *more = realloc(in->data, in->filled + length + 1);
            if (!more)
                return bn_error_nomem(r->path, in->filled + length + 1);
            in->data = more;
        }
        if (!receive_all(r->child->socket, in->data + in->filled, length))
            return ended(r);
        in->filled += length;
    }
}

/* Sends a request, takes the answer. */
static bn_status ask(const bn_h5_reader *r, const request *q, inbox *in, reply *a)
{
    if (r->child->pid == 0)
        return ended(r);
    if (!send_all(r->child->socket, q, sizeof *q))
        return ended(r);
    BN_TRY(take_pieces(r, in));
    if (!receive_all(r->child->socket, a, sizeof *a))
        return ended(r);
    a->text[sizeof a->text - 1] = '\0';
    switch (a->status) {
    case BN_OK:
        return BN_OK;
    case BN_FAIL: /* no memory: there is a limit */
        return bn_error(BN_BAD_DATA, "%s: refused: reading it took more memory than allowed (%s)",
                        r->path, a->text);
    case BN_NO_INPUT:
    case BN_IO:
        return bn_error(a->status, "%s", a->text);
    default:
        return bn_error(BN_BAD_DATA, "%s", a->text);
    }
}

/* Whether a list that came from the child is one that a reader could have. */
static bool entries_ok(const bn_h5_entry *entries, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const bn_h5_entry *e = &entries[i];
        if (!memchr(e->name, 0, sizeof e->name) || !bn_h5_name_ok(e->name, BN_H5_NAME_MAX, true) ||
            (i > 0 && strcmp(entries[i - 1].name, e->name) >= 0))
            return false;
        if ((int)e->type < 0 || (int)e->type >= BN_H5_TYPE_COUNT || e->ndim < 1 ||
            e->ndim > BN_MAX_DIMS)
            return false;
        const bn_tensor t = bn_tensor_of(BN_F64, e->ndim, e->shape);
        if (bn_tensor_check(&t, e->name) != BN_OK ||
            e->bytes != (size_t)bn_tensor_numel(&t) * bn_h5_type_size(e->type))
            return false;
    }
    return true;
}

static bn_status take_entries(bn_h5_reader *r)
{
    const request q = {.op = OP_ENTRIES};
    inbox in = {.room = BN_H5_MAX_ARRAYS * sizeof *r->entries, .grows = true};
    reply a;
    bn_status status = ask(r, &q, &in, &a);
    if (status == BN_OK && (a.number < 0 || a.number > BN_H5_MAX_ARRAYS ||
                            in.filled != (size_t)a.number * sizeof *r->entries ||
                            !entries_ok((const bn_h5_entry *)(void *)in.data, a.number)))
        status = bn_error(BN_BAD_DATA, "%s: refused: a list of arrays that is none", r->path);
    if (status != BN_OK) {
        free(in.data);
        return status;
    }
    r->entries = (bn_h5_entry *)(void *)in.data;
    r->count = r->capacity = (int)a.number;
    return BN_OK;
}

static bn_status start_child(bn_h5_reader *r)
{
    int ends[2];
    if (!(r->child = calloc(1, sizeof *r->child)))
        return bn_error_nomem("a child process", sizeof *r->child);
    r->child->socket = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return bn_error(BN_FAIL, "%s: no socket for a child process: %s", r->path, strerror(errno));
    const pid_t pid = fork();
    if (pid == 0) {
        lock_up(r->path, &ends[1]);
        serve(r->path, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    r->child->socket = ends[0];
    if (pid < 0)
        return bn_error(BN_FAIL, "%s: no child process: %s", r->path, strerror(errno));
    r->child->pid = pid;
    return BN_OK;
}

bn_status bn_h5_child_open(const char *path, bn_h5_reader **out)
{
    bn_status status = BN_FAIL;
    *out = NULL;
    bn_h5_reader *r = calloc(1, sizeof *r);
    if (!r)
        return bn_error_nomem("an HDF5 reader", sizeof *r);
    r->file = H5I_INVALID_HID;
    if (!(r->path = bn_strdup(path)))
        goto out;
    BN_TRY_OUT(start_child(r));
    BN_TRY_OUT(take_entries(r));
    *out = r;
    r = NULL;
out:
    bn_h5_close(r);
    return status;
}

void bn_h5_child_close(struct bn_h5_child *child)
{
    if (!child)
        return;
    if (child->socket >= 0)
        close(child->socket);
    if (child->pid > 0) {
        kill(child->pid, SIGKILL); /* it may be busy */
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    free(child);
}

bn_status bn_h5_child_read(const bn_h5_reader *r, const bn_h5_entry *e, void *data)
{
    const request q = {.op = OP_READ, .index = (int)(e - r->entries)};
    inbox in = {.data = data, .room = e->bytes};
    reply a;
    BN_TRY(ask(r, &q, &in, &a));
    if (in.filled != e->bytes)
        return bn_error(BN_BAD_DATA, "%s: %s: refused: fewer bytes than announced", r->path,
                        e->name);
    return BN_OK;
}

bn_status bn_h5_child_verify(const bn_h5_reader *r)
{
    const request q = {.op = OP_VERIFY};
    inbox in = {0};
    reply a;
    return ask(r, &q, &in, &a);
}

/* False when the names do not fit: there is no such attribute then. */
static bool attr_request(op what, const char *object, const char *name, request *q)
{
    *q = (request){.op = what, .root = !object};
    return snprintf(q->object, sizeof q->object, "%s", object ? object : "") <
               (int)sizeof q->object &&
           snprintf(q->name, sizeof q->name, "%s", name) < (int)sizeof q->name;
}

bool bn_h5_child_has_attr(const bn_h5_reader *r, const char *object, const char *name)
{
    request q;
    inbox in = {0};
    reply a;
    return attr_request(OP_HAS_ATTR, object, name, &q) && ask(r, &q, &in, &a) == BN_OK && a.number;
}

bn_status bn_h5_child_attr_get(const bn_h5_reader *r, const char *object, const char *name,
                               bn_h5_attr *v)
{
    request q;
    inbox in = {.room = BN_H5_STRING_MAX, .grows = true};
    reply a;
    bn_status status;
    *v = (bn_h5_attr){0};
    if (!attr_request(OP_ATTR, object, name, &q))
        return bn_error(BN_BAD_DATA, "%s: expected an attribute %s, found none", r->path, name);
    BN_TRY_OUT(ask(r, &q, &in, &a));
    *v = (bn_h5_attr){.kind = (unsigned)a.kind, .scalar = a.scalar, .count = a.number};
    if (a.kind < BN_H5_ATTR_I64 || a.kind > BN_H5_ATTR_STRING || a.number < 0 ||
        a.number > BN_H5_STRING_MAX || in.filled != bn_h5_attr_bytes(v) ||
        (a.kind != BN_H5_ATTR_STRING && (a.number < 1 || a.number > BN_H5_MAX_ATTRS)) ||
        (a.kind == BN_H5_ATTR_STRING && in.filled && memchr(in.data, 0, in.filled))) {
        status = bn_error(BN_BAD_DATA, "%s: refused: an attribute that is none", r->path);
        goto out;
    }
    if (!in.data && !(in.data = malloc(1))) {
        status = bn_error_nomem(name, 1);
        goto out;
    }
    in.data[in.filled] = '\0';
    v->bytes = in.data;
    in.data = NULL;
out:
    free(in.data);
    return status;
}
