/* A device that is lost for good, for programs as they are: preloaded before
 * the OpenCL loader, it lets LOST_AFTER kernels pass; from then on every call on
 * the queue returns LOST_CODE. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <dlfcn.h>
#include <stdlib.h>

static long number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

/* Counts kernels; what a call has to return, CL_SUCCESS: let it through. */
static cl_int fate(int kernels)
{
    static long passed;
    passed += kernels;
    return passed > number("LOST_AFTER") ? (cl_int)number("LOST_CODE") : CL_SUCCESS;
}

/* The real function, in the idiom of dlsym(3); its type is that of the prototype. */
#define REAL(name) (*(__typeof__(&name) *)&(void *){dlsym(RTLD_NEXT, #name)})

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                              const size_t *offset, const size_t *global, const size_t *local,
                              cl_uint n, const cl_event *wait, cl_event *event)
{
    cl_int code = fate(1);
    return code != CL_SUCCESS ? code
                              : REAL(clEnqueueNDRangeKernel)(queue, kernel, dims, offset, global,
                                                             local, n, wait, event);
}

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset,
                           size_t size, void *to, cl_uint n, const cl_event *wait, cl_event *event)
{
    cl_int code = fate(0);
    return code != CL_SUCCESS ? code
                              : REAL(clEnqueueReadBuffer)(queue, buffer, blocking, offset, size, to,
                                                          n, wait, event);
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset,
                            size_t size, const void *from, cl_uint n, const cl_event *wait,
                            cl_event *event)
{
    cl_int code = fate(0);
    return code != CL_SUCCESS ? code
                              : REAL(clEnqueueWriteBuffer)(queue, buffer, blocking, offset, size,
                                                           from, n, wait, event);
}

cl_int clFinish(cl_command_queue queue)
{
    cl_int code = fate(0);
    return code != CL_SUCCESS ? code : REAL(clFinish)(queue);
}
