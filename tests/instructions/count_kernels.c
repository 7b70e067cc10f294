/* Runs kernels of the "cpu" backend once each, on one thread, inside counted(),
 * for check_instructions.py, which lets callgrind count what happens in there.
 * Prints the kernels' instruction set, then the names in this order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/op_instance.h"
#include "cpu/cpu.h"
#include "cpu/fast/fast_impl.h"

enum { ROWS = 32, COLS = 512, N = ROWS * COLS, OUT = 128, GROUP = 128 };

static const bn_rowops *ops;
static bn_op_instance product;
static float x[N], y[N], z[N], rows[ROWS];
static int8_t codes[N];
static uint8_t packed[N / 4];

static void absmax(void)
{
    rows[0] = ops->absmax(N, x);
}

static void act_codes(void)
{
    ops->act_codes(N, x, 1.0f, 8, codes);
}

static void abs_sum(void)
{
    rows[0] = (float)ops->abs_sum(N, x);
}

static void ternarize(void)
{
    ops->ternarize_row(N, N, x, rows, 1, packed);
}

static void dequantize(void)
{
    ops->dequantize_row(N, N, packed, rows, 1, y);
}

static void rmsnorm(void)
{
    ops->rmsnorm(ROWS, COLS, 1e-5, x, z, y, rows);
}

static void softmax(void)
{
    ops->softmax(ROWS, COLS, x, y);
}

static void silu_glu(void)
{
    ops->silu_glu(N, x, z, y);
}

static void adamw(void)
{
    const bn_adamw_scalars s = {.clip = 1,
                                .beta1 = 0.9f,
                                .one_beta1 = 0.1f,
                                .beta2 = 0.99f,
                                .one_beta2 = 0.01f,
                                .rate = 1e-3f,
                                .root = 1,
                                .eps = 1e-8f};
    ops->adamw(N, &s, x, y, z, z);
}

static bn_status product_status;

static void bitlinear(void)
{
    product_status = bn_op_instance_forward(&product);
}

static const struct {
    const char *name;
    void (*kernel)(void);
} kernels[] = {
    {"absmax", absmax},       {"act_codes", act_codes},   {"abs_sum", abs_sum},
    {"ternarize", ternarize}, {"dequantize", dequantize}, {"rmsnorm", rmsnorm},
    {"softmax", softmax},     {"silu_glu", silu_glu},     {"adamw", adamw},
    {"bitlinear", bitlinear},
};

/* What is counted. */
__attribute__((noinline)) static void counted(void (*kernel)(void))
{
    kernel();
    __asm__ volatile("" ::: "memory"); /* no tail call, which would leave it early */
}

static bn_status init_product(bn_backend *backend)
{
    static double steps[ROWS], scales[OUT * COLS / GROUP];
    static uint8_t weight[OUT * COLS / 4];
    bn_op_spec spec = {.op = BN_OP_BITLINEAR, .params.weight.group_size = GROUP};
    memset(weight, 0x99, sizeof weight); /* 0, 1, 0, 1 */
    spec.in[0] = bn_tensor_2d(BN_I8, ROWS, COLS);
    spec.in[1] = bn_tensor_1d(BN_F64, ROWS);
    spec.in[2] = bn_tensor_2d(BN_T2, OUT, COLS);
    spec.in[3] = bn_weight_scale_shape(BN_F64, OUT, COLS, GROUP);
    const void *data[] = {codes, steps, weight, scales};
    memcpy(spec.data, data, sizeof data);
    return bn_op_instance_init(&product, backend, &spec);
}

int main(void)
{
    bn_backend *backend = NULL;
    bn_status status = bn_cpu_backend_new(&(bn_cpu_options){.threads = 1}, &backend);
    for (int i = 0; i < N; i++)
        x[i] = z[i] = (float)(i % 29 - 14) * 0.07f;
    rows[0] = 1;
    if (status == BN_OK) {
        ops = bn_fast_ops(backend);
        status = init_product(backend);
    }
    if (status == BN_OK)
        printf("%s\n", bn_cpu_isa(backend));
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels && status == BN_OK; i++) {
        counted(kernels[i].kernel);
        printf("%s\n", kernels[i].name);
        status = product_status;
    }
    if (status != BN_OK)
        fprintf(stderr, "count_kernels: %s\n", bn_error_text());
    bn_op_instance_clear(&product);
    bn_backend_free(backend);
    return (int)status;
}
