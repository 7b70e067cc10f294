/* backend.h - the contract between the graph and a compute device.
 *
 * A backend is memory functions, one row of kernels per op, and a few routines
 * that are not graph operations (optimizer, norms). Kernels run in order; a
 * device may run them later than the call returns, and sync() waits. A row
 * without a forward kernel makes bn_backend_forward() fail with a message that
 * names backend and op. Not thread-safe: one thread drives a backend.
 */
#ifndef BN_BACKEND_BACKEND_H
#define BN_BACKEND_BACKEND_H

#include "backend/op.h"

typedef struct bn_backend bn_backend;

typedef bn_status (*bn_kernel)(bn_backend *backend, const bn_op_call *call);

/* Bytes of scratch that a call with these shapes needs (0: none). */
typedef size_t (*bn_scratch_rule)(const bn_backend *backend, const bn_op_call *call);

typedef struct bn_kernel_row {
    bn_kernel forward, backward;
    bn_scratch_rule forward_scratch, backward_scratch; /* NULL: none */
    const char *forward_variant, *backward_variant;    /* "ref", "avx2", ... */
} bn_kernel_row;

/* AdamW over a flat range (Loshchilov & Hutter, arXiv 1711.05101; the update
 * order of torch.optim.AdamW):
 *   c = 1, or clip/(norm + 1e-6) if clip > 0 and norm > clip
 *   g = c * grad;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
 *   p -= lr * decay * p
 *   p -= (lr / (1-b1^t)) * m / (sqrt(v) / sqrt(1-b2^t) + eps)
 * with decay = weight_decay for elements < decay_end of the range, else 0. */
typedef struct bn_adamw {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;      /* t, from 1 */
    int64_t decay_end; /* elements of the range that decay, from its start */
    double clip;       /* 0: off */
} bn_adamw;

/* AdamW on a parameter whose moments are kept in 8 bits: decoded (quant/dynamic8.h;
 * maps[0] with a sign for m, maps[1] without for v), updated as above, coded again.
 * Each is codes u8 [n] and the largest magnitude of every BN_DYNAMIC8_BLOCK f32. */
typedef struct bn_moment8 {
    bn_tensor codes, absmax;
} bn_moment8;
struct bn_dynamic8;

/* What a clip of c makes of gradients whose norm is `norm`: a factor. */
static inline double bn_clip_factor(double clip, double norm)
{
    return clip > 0 && norm > clip ? clip / (norm + 1e-6) : 1;
}

/* Muon on one matrix [rows,cols] (K. Jordan et al., "Muon: An optimizer for
 * hidden layers in neural networks", 2024; the order of torch.optim.Muon):
 *   g = c * grad, c as for AdamW;  m = mu m + (1-mu) g
 *   X = mu m + (1-mu) g            Nesterov's look ahead
 *   X = X / (||X|| + 1e-7), then BN_MUON_STEPS times
 *   X = a X + (b A + c A A) X,  A = X X^T          Newton-Schulz
 *   p -= lr * weight_decay * p;  p -= lr * sqrt(max(1, rows/cols)) * X
 * Where rows > cols A is the smaller X^T X and stands to the right of X. */
typedef struct bn_muon {
    double lr, momentum, weight_decay;
    double clip; /* 0: off */
} bn_muon;

enum { BN_MUON_STEPS = 5 };
#define BN_MUON_A 3.4445
#define BN_MUON_B (-4.7750)
#define BN_MUON_C 2.0315

/* Elements of scratch for it: two matrices and two squares of the shorter side. */
static inline int64_t bn_muon_scratch(int64_t rows, int64_t cols)
{
    const int64_t side = rows < cols ? rows : cols;
    return 2 * rows * cols + 2 * side * side;
}

/* SGD with momentum over a flat range; the order and the coupled decay of
 * torch.optim.SGD (Sutskever et al., "On the importance of initialization and
 * momentum in deep learning", ICML 2013):
 *   g = c * grad + decay * p, c and decay as for AdamW;  m = mu m + g
 *   p -= lr * m, or with Nesterov's momentum p -= lr * (g + mu m) */
typedef struct bn_sgd {
    double lr, momentum, weight_decay;
    bool nesterov;
    int64_t decay_end; /* elements of the range that decay, from its start */
    double clip;       /* 0: off */
} bn_sgd;

/* A number that a backend may choose: it changes the speed, and no bit of a
 * result. `value` may be set to any candidate between two kernels. */
typedef struct bn_choice {
    const char *name;
    int value, standard;   /* in use; the default for this device */
    const int *candidates; /* ascending, 0 at the end; value is among them */
} bn_choice;

/* What a backend counts, since it was made. */
typedef struct bn_backend_usage {
    uint64_t bytes, peak_bytes;            /* allocated now, and at most so far */
    double fragmentation;                  /* share of what it holds that is not allocated */
    uint64_t upload_bytes, download_bytes; /* moved to the device and back; 0 in host memory */
} bn_backend_usage;

struct bn_backend {
    const char *name; /* "cpu", "ref64", "opencl:0" ... */
    bn_dtype real;    /* BN_F32 or BN_F64 */
    /* Weights that BITLINEAR reads besides BN_T2: mask of 1 << dtype (in lanes:
     * its forward only). */
    unsigned weights;
    /* BITLINEAR's backward products: mask of 1 << bn_backward. */
    unsigned backwards;
    /* Rules by which WEIGHT_QUANT makes scales: mask of 1 << bn_scale_rule. Its grids are those
     * whose codes are BN_T2 or among `weights`. */
    unsigned scale_rules;
    bool kv_codes; /* its KV_ATTENTION knows caches of codes */
    bn_kernel_row rows[BN_OP_COUNT];

    /* Memory. alloc() gives zeroed memory aligned to BN_ALIGN. */
    bn_status (*alloc)(bn_backend *, size_t bytes, bn_buffer *out);
    void (*release)(bn_backend *, bn_buffer *buffer); /* zeroes *buffer */
    bn_status (*upload)(bn_backend *, const bn_tensor *dst, const void *src);
    bn_status (*download)(bn_backend *, const bn_tensor *src, void *dst);
    bn_status (*fill_zero)(bn_backend *, const bn_tensor *dst);
    bn_status (*sync)(bn_backend *);
    void (*usage)(const bn_backend *, bn_backend_usage *out); /* NULL: nothing is counted */

    /* Rewrites a packed weight [out,in] and its scale in place into the layout
     * from which BITLINEAR reads it fastest, for weights of which from now on
     * only the forward product is wanted. *codes gets the new dtype; it stays
     * BN_T2 where the shape allows nothing better. NULL: BN_T2 is all there is. */
    bn_status (*arrange)(bn_backend *, bn_tensor *codes, const bn_tensor *scale,
                         int64_t group_size);

    /* Routines on flat real tensors. */
    bn_status (*adamw)(bn_backend *, const bn_adamw *, const bn_tensor *param,
                       const bn_tensor *grad, const bn_tensor *m, const bn_tensor *v,
                       const bn_tensor *norm);
    /* NULL: the backend has none. */
    bn_status (*adamw8bit)(bn_backend *, const bn_adamw *, const struct bn_dynamic8 *maps,
                           const bn_tensor *param, const bn_tensor *grad, const bn_moment8 *m,
                           const bn_moment8 *v, const bn_tensor *norm);
    bn_status (*sgd)(bn_backend *, const bn_sgd *, const bn_tensor *param, const bn_tensor *grad,
                     const bn_tensor *m, const bn_tensor *norm);
    /* scratch: bn_muon_scratch() reals. NULL: the backend has no Muon. */
    bn_status (*muon)(bn_backend *, const bn_muon *, const bn_tensor *param, const bn_tensor *grad,
                      const bn_tensor *m, const bn_tensor *norm, const bn_tensor *scratch);
    /* norm[1] (real) = sqrt(sum of squares of x), summed in double precision
     * in an order that does not depend on the number of threads. */
    bn_status (*norm)(bn_backend *, const bn_tensor *x, const bn_tensor *norm);
    /* x *= factor */
    bn_status (*scale)(bn_backend *, const bn_tensor *x, double factor);

    /* What may be tuned; keep_choices() stores the values for later backends on
     * this device, which then have choices_kept. */
    bn_choice *choices;
    int n_choices; /* 0: nothing */
    bool choices_kept;
    bn_status (*keep_choices)(bn_backend *);

    void (*free)(bn_backend *); /* the backend itself; NULL: static */
    void *impl;                 /* the backend's own state */
};

void bn_backend_free(bn_backend *backend); /* NULL is fine */

/* Runs one op whose operands all have memory. */
bn_status bn_backend_forward(bn_backend *backend, const bn_op_call *call) BN_MUST_CHECK;
bn_status bn_backend_backward(bn_backend *backend, const bn_op_call *call) BN_MUST_CHECK;

/* The same for a single forward call outside a tape: call->scratch is ignored
 * and what the kernel needs is allocated for the call. */
bn_status bn_backend_forward_alone(bn_backend *backend, const bn_op_call *call) BN_MUST_CHECK;

/* Upload and download with conversion between float32 host arrays and the
 * backend's real type. `n` must be the tensor's element count. */
bn_status bn_backend_put_f32(bn_backend *backend, const bn_tensor *dst, const float *src,
                             int64_t n) BN_MUST_CHECK;
bn_status bn_backend_get_f32(bn_backend *backend, const bn_tensor *src, float *dst,
                             int64_t n) BN_MUST_CHECK;
/* One real element as double (a loss, a norm); waits for the device. */
bn_status bn_backend_get_scalar(bn_backend *backend, const bn_tensor *src,
                                double *value) BN_MUST_CHECK;

/* Coverage matrix as text, one line per op: name, forward and backward variant
 * ("-" absent, "pass" or "view" where no kernel is needed). Caller frees. */
bn_status bn_backend_coverage(const bn_backend *backend, char **text) BN_MUST_CHECK;

#endif
