/* The kernels on their smallest cases, for a simulator that looks at every
 * access (test_oclgrind.sh): each op's cases of few elements, forward and
 * backward, in the GPU shape, which has the barriers and the local memory.
 *
 *   opencl_grind              the cases
 *   opencl_grind race         a kernel with a data race ...
 *   opencl_grind outside      ... and one that writes behind its buffer: what the
 *                             simulator has to find, or it is of no use
 */
#include "cmocka_all.h"

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "opencl/opencl.h"
#include "ops/parity.h"

/* ---- the cases -------------------------------------------------------------- */

static int64_t elements(const op_case *k)
{
    int64_t n = 0;
    for (int i = 0; i < BN_MAX_IN; i++)
        if (bn_tensor_present(&k->spec.in[i]))
            n += bn_tensor_numel(&k->spec.in[i]);
    return n;
}

/* The place of the op's case with the fewest elements of those above `least`. */
static int next_small(const op_case_list *cases, bn_op op, int64_t least)
{
    int best = -1;
    for (int k = 0; k < cases->count; k++)
        if (cases->items[k].spec.op == op && elements(&cases->items[k]) > least &&
            (best < 0 || elements(&cases->items[k]) < elements(&cases->items[best])))
            best = k;
    return best;
}

/* AdamW, SGD, norm and scale over a few elements. */
static void run_routines(bn_backend *backend)
{
    enum { N = 300 };
    float x[N];
    bn_buffer memory[5];
    bn_tensor t[5];
    const bn_adamw update = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .step = 1, .clip = 1};
    const bn_sgd sgd = {.lr = 1e-3, .momentum = 0.9, .clip = 1};
    for (int i = 0; i < N; i++)
        x[i] = (float)(i % 7);
    for (int i = 0; i < 5; i++) {
        assert_ok(backend->alloc(backend, sizeof x, &memory[i]));
        t[i] = bn_tensor_at(bn_tensor_1d(BN_F32, i < 4 ? N : 1), &memory[i], 0);
        assert_ok(backend->upload(backend, &t[i], x));
    }
    assert_ok(backend->norm(backend, &t[1], &t[4]));
    assert_ok(backend->adamw(backend, &update, &t[0], &t[1], &t[2], &t[3], &t[4]));
    assert_ok(backend->sgd(backend, &sgd, &t[0], &t[1], &t[2], &t[4]));
    assert_ok(backend->scale(backend, &t[1], 0.5));
    assert_ok(backend->sync(backend));
    for (int i = 0; i < 5; i++)
        backend->release(backend, &memory[i]);
}

static void small_cases_are_clean(void **state)
{
    enum { MOST = 2000, PER_OP = 2 };
    (void)state;
    parity_limits limits[BN_OP_COUNT];
    for (int op = 0; op < BN_OP_COUNT; op++)
        limits[op] = (parity_limits){5e-6, 5e-5}; /* opencl_parity has the tight ones */
    bn_backend *reference, *backend;
    op_case_list cases = op_cases_new();
    const bn_opencl_options options = {.shape = "gpu", .cache_dir = ""};
    assert_ok(bn_ref_backend_new(BN_F32, &reference));
    assert_ok(bn_opencl_backend_new(NULL, &options, &backend));
    int compared = 0;
    for (int op = 0; op < BN_OP_COUNT; op++) {
        int64_t least = 16; /* the tiniest cases have a single row or element */
        for (int i = 0; i < PER_OP; i++) {
            const int k = next_small(&cases, (bn_op)op, least);
            if (k < 0 || elements(&cases.items[k]) > MOST)
                break;
            least = elements(&cases.items[k]);
            if (!parity_step_groups(&cases.items[k]))
                compared += parity_case(&cases.items[k], backend, reference, "gpu", limits);
        }
    }
    assert_true(compared > BN_OP_COUNT);
    run_routines(backend);
    bn_backend_free(backend);
    bn_backend_free(reference);
    op_cases_free(&cases);
}

/* ---- what has to be found ---------------------------------------------------- */

/* Runs 8 work-items in a group of 8 over y [8]. */
static int run_broken(const char *source)
{
    cl_platform_id platform;
    cl_device_id device;
    cl_int error = clGetPlatformIDs(1, &platform, NULL);
    if (error != CL_SUCCESS || clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL))
        return 69;
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &error);
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &error);
    cl_mem y = clCreateBuffer(context, CL_MEM_READ_WRITE, 8 * sizeof(cl_int), NULL, &error);
    cl_program program = clCreateProgramWithSource(context, 1, &source, NULL, &error);
    error = clBuildProgram(program, 1, &device, "-cl-std=CL1.2", NULL, NULL);
    cl_kernel kernel = clCreateKernel(program, "broken", &error);
    const size_t size = 8;
    clSetKernelArg(kernel, 0, sizeof y, &y);
    error = clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &size, &size, 0, NULL, NULL);
    clFinish(queue);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    clReleaseMemObject(y);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    return error == CL_SUCCESS ? 0 : 1;
}

/* A tree without its barrier; a last element that is one too far. */
static const char race[] = "kernel void broken(global int *y)\n"
                           "{\n"
                           "    local int part[8];\n"
                           "    int i = get_local_id(0);\n"
                           "    part[i] = i;\n"
                           "    y[i] = part[7 - i];\n"
                           "}\n";
static const char outside[] = "kernel void broken(global int *y)\n"
                              "{\n"
                              "    y[get_local_id(0) + 1] = 0;\n"
                              "}\n";

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cases_are_clean),
    };
    if (argc > 1)
        return run_broken(strcmp(argv[1], "race") == 0 ? race : outside);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
