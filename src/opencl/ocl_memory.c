/* Device memory, transfers, and the error flag that kernels raise. */
#include "opencl/ocl_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static cl_mem handle_of(const bn_tensor *t)
{
    return t->buffer->handle;
}

/* ---- buffers -------------------------------------------------------------- */

static bn_status too_large(const bn_ocl *ocl, size_t bytes, cl_int error)
{
    char need[BN_SIZE_TEXT], once[BN_SIZE_TEXT], all[BN_SIZE_TEXT], used[BN_SIZE_TEXT];
    return bn_error(BN_FAIL,
                    "%s (%s): %s are needed in one block, the device allows %s at once and %s in "
                    "all, of which this run holds %s (%s)",
                    ocl->name, ocl->device.name, bn_size_text(bytes, need),
                    bn_size_text(ocl->device.max_alloc_bytes, once),
                    bn_size_text(ocl->device.global_bytes, all),
                    bn_size_text(ocl->stats.bytes, used), bn_ocl_error_name(error));
}

static cl_int fill(bn_ocl *ocl, cl_mem memory, size_t offset, size_t bytes)
{
    const cl_uchar zero = 0;
    const cl_uint wide = 0;
    bool by_four = offset % 4 == 0 && bytes % 4 == 0;
    return bn_ocl_call_fails(ocl)
               ? CL_OUT_OF_RESOURCES
               : clEnqueueFillBuffer(
                     ocl->queue, memory, by_four ? (const void *)&wide : (const void *)&zero,
                     by_four ? sizeof wide : sizeof zero, offset, bytes, 0, NULL, NULL);
}

/* What drivers say to a first use of memory that is not there. */
static bool is_shortage(cl_int error)
{
    return error == CL_MEM_OBJECT_ALLOCATION_FAILURE || error == CL_OUT_OF_RESOURCES ||
           error == CL_OUT_OF_HOST_MEMORY;
}

static bn_status ocl_alloc(bn_backend *backend, size_t bytes, bn_buffer *out)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    *out = (bn_buffer){0};
    if (bytes > ocl->device.max_alloc_bytes)
        return too_large(ocl, bytes, CL_INVALID_BUFFER_SIZE);
    if (bytes > ocl->device.global_bytes - ocl->stats.bytes)
        return too_large(ocl, bytes, CL_MEM_OBJECT_ALLOCATION_FAILURE);
    cl_mem_flags flags = CL_MEM_READ_WRITE;
    if (ocl->device.type == BN_OPENCL_CPU)
        flags |= CL_MEM_ALLOC_HOST_PTR; /* no copies to and from such a device */
    size_t size = bytes ? bytes : 1;
    cl_int error = CL_OUT_OF_RESOURCES;
    cl_mem memory =
        bn_ocl_call_fails(ocl) ? NULL : clCreateBuffer(ocl->context, flags, size, NULL, &error);
    if (!memory)
        return too_large(ocl, bytes, error);
    /* Drivers may put off the allocation to the first use: this is it. */
    error = fill(ocl, memory, 0, size);
    if (error == CL_SUCCESS)
        error = clFinish(ocl->queue);
    if (error != CL_SUCCESS) {
        clReleaseMemObject(memory);
        return is_shortage(error) ? too_large(ocl, bytes, error)
                                  : bn_ocl_check(ocl, error, "clEnqueueFillBuffer");
    }
    *out = (bn_buffer){.handle = memory, .bytes = bytes};
    ocl->stats.bytes += bytes;
    if (ocl->stats.bytes > ocl->stats.peak_bytes)
        ocl->stats.peak_bytes = ocl->stats.bytes;
    return BN_OK;
}

static void ocl_release(bn_backend *backend, bn_buffer *buffer)
{
    if (buffer->handle) {
        clReleaseMemObject(buffer->handle);
        bn_ocl_of(backend)->stats.bytes -= buffer->bytes;
    }
    *buffer = (bn_buffer){0};
}

bn_status bn_ocl_zero(bn_ocl *ocl, const bn_tensor *dst)
{
    return bn_ocl_check(ocl, fill(ocl, handle_of(dst), dst->offset, bn_tensor_bytes(dst)),
                        "clEnqueueFillBuffer");
}

static bn_status ocl_fill_zero(bn_backend *backend, const bn_tensor *dst)
{
    return bn_ocl_zero(bn_ocl_of(backend), dst);
}

/* ---- what kernels found wrong ------------------------------------------------ */

/* Enqueues the reading of the flag; valid after the next wait. */
static bn_status flag_enqueue(bn_ocl *ocl, int32_t found[4])
{
    cl_int error = bn_ocl_call_fails(ocl)
                       ? CL_OUT_OF_RESOURCES
                       : clEnqueueReadBuffer(ocl->queue, ocl->flag.handle, CL_FALSE, 0, 16, found,
                                             0, NULL, NULL);
    BN_TRY(bn_ocl_check(ocl, error, "clEnqueueReadBuffer (error flag)"));
    ocl->stats.download_bytes += 16;
    ocl->stats.downloads++;
    return BN_OK;
}

/* found: op + 1 (0: nothing), value, row. */
static bn_status flag_report(bn_ocl *ocl, const int32_t found[4])
{
    if (found[0] == 0)
        return BN_OK;
    bn_tensor flag = bn_ocl_flag(ocl);
    BN_TRY(bn_ocl_zero(ocl, &flag));
    int op = found[0] - 1;
    const char *name = op >= 0 && op < BN_OP_COUNT ? bn_op_table[op].name : "kernel";
    return bn_error(BN_FAIL, "%s: %s %d in row %d is outside its range", name,
                    op == BN_OP_EMBEDDING ? "id" : "label", (int)found[1], (int)found[2]);
}

static bn_status finish(bn_ocl *ocl)
{
    bn_status status = bn_ocl_check(ocl, clFinish(ocl->queue), "clFinish");
    ocl->staging_used = 0;
    return status;
}

static bn_status ocl_sync(bn_backend *backend)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    int32_t found[4] = {0};
    bn_status status = flag_enqueue(ocl, found);
    bn_status end = finish(ocl); /* in any case: `found` must not be written later */
    BN_TRY(status);
    BN_TRY(end);
    BN_TRY(bn_ocl_read_timings(ocl));
    return flag_report(ocl, found);
}

/* ---- transfers ---------------------------------------------------------------- */

/* Small uploads are copied into pinned memory and go on their way; the part of
 * it that is in use is free again when the device has been waited for. */
static bn_status upload_staged(bn_ocl *ocl, const bn_tensor *dst, const void *src, size_t bytes)
{
    if (ocl->staging_used + bytes > BN_OCL_STAGING_BYTES)
        BN_TRY(finish(ocl));
    unsigned char *from = ocl->staged + ocl->staging_used;
    memcpy(from, src, bytes);
    ocl->staging_used += bn_align_up(bytes, BN_ALIGN);
    cl_int error = bn_ocl_call_fails(ocl)
                       ? CL_OUT_OF_RESOURCES
                       : clEnqueueWriteBuffer(ocl->queue, handle_of(dst), CL_FALSE, dst->offset,
                                              bytes, from, 0, NULL, NULL);
    return bn_ocl_check(ocl, error, "clEnqueueWriteBuffer");
}

static bn_status ocl_upload(bn_backend *backend, const bn_tensor *dst, const void *src)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    size_t bytes = bn_tensor_bytes(dst);
    ocl->stats.upload_bytes += bytes;
    ocl->stats.uploads++;
    if (bytes <= BN_OCL_STAGING_BYTES)
        return upload_staged(ocl, dst, src, bytes);
    cl_int error = bn_ocl_call_fails(ocl)
                       ? CL_OUT_OF_RESOURCES
                       : clEnqueueWriteBuffer(ocl->queue, handle_of(dst), CL_TRUE, dst->offset,
                                              bytes, src, 0, NULL, NULL);
    return bn_ocl_check(ocl, error, "clEnqueueWriteBuffer");
}

static bn_status ocl_download(bn_backend *backend, const bn_tensor *src, void *dst)
{
    bn_ocl *ocl = bn_ocl_of(backend);
    size_t bytes = bn_tensor_bytes(src);
    int32_t found[4] = {0};
    bn_status status = flag_enqueue(ocl, found);
    cl_int error = CL_SUCCESS;
    if (status == BN_OK)
        error = bn_ocl_call_fails(ocl)
                    ? CL_OUT_OF_RESOURCES
                    : clEnqueueReadBuffer(ocl->queue, handle_of(src), CL_FALSE, src->offset, bytes,
                                          dst, 0, NULL, NULL);
    bn_status end = finish(ocl); /* in any case: nothing may write `found` or `dst` later */
    BN_TRY(status);
    BN_TRY(bn_ocl_check(ocl, error, "clEnqueueReadBuffer"));
    BN_TRY(end);
    ocl->stats.download_bytes += bytes;
    ocl->stats.downloads++;
    BN_TRY(bn_ocl_read_timings(ocl));
    BN_TRY(flag_report(ocl, found));
    bn_ocl_programs_save(ocl);
    return BN_OK;
}

/* ---- the context's own memory --------------------------------------------------- */

bn_status bn_ocl_memory_init(bn_ocl *ocl)
{
    cl_int error = CL_OUT_OF_RESOURCES;
    BN_TRY(ocl_alloc(&ocl->backend, 4 * sizeof(int32_t), &ocl->flag));
    BN_TRY(ocl_alloc(&ocl->backend, BN_OCL_WORK_BYTES, &ocl->work));
    if (!bn_ocl_call_fails(ocl))
        ocl->staging = clCreateBuffer(ocl->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                      BN_OCL_STAGING_BYTES, NULL, &error);
    BN_TRY(bn_ocl_check(ocl, error, "clCreateBuffer (staging)"));
    error = CL_OUT_OF_RESOURCES;
    if (!bn_ocl_call_fails(ocl))
        ocl->staged =
            clEnqueueMapBuffer(ocl->queue, ocl->staging, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                               BN_OCL_STAGING_BYTES, 0, NULL, NULL, &error);
    return bn_ocl_check(ocl, error, "clEnqueueMapBuffer (staging)");
}

void bn_ocl_memory_free(bn_ocl *ocl)
{
    if (ocl->staged &&
        clEnqueueUnmapMemObject(ocl->queue, ocl->staging, ocl->staged, 0, NULL, NULL) == CL_SUCCESS)
        clFinish(ocl->queue);
    if (ocl->staging)
        clReleaseMemObject(ocl->staging);
    ocl_release(&ocl->backend, &ocl->flag);
    ocl_release(&ocl->backend, &ocl->work);
}

bn_tensor bn_ocl_flag(const bn_ocl *ocl)
{
    return bn_tensor_at(bn_tensor_1d(BN_I32, 4), &ocl->flag, 0);
}

bn_tensor bn_ocl_work(const bn_ocl *ocl, bn_dtype dtype, int64_t n, size_t offset)
{
    return bn_tensor_at(bn_tensor_1d(dtype, n), &ocl->work, offset);
}

bn_tensor bn_ocl_part(const bn_tensor *t, size_t skip, size_t bytes)
{
    return bn_tensor_at(bn_tensor_1d(BN_U8, (int64_t)bytes), t->buffer, t->offset + skip);
}

static void ocl_usage(const bn_backend *backend, bn_backend_usage *out)
{
    const bn_opencl_stats *s = &bn_ocl_of(backend)->stats;
    *out = (bn_backend_usage){.bytes = s->bytes,
                              .peak_bytes = s->peak_bytes,
                              .upload_bytes = s->upload_bytes,
                              .download_bytes = s->download_bytes};
}

void bn_ocl_memory_functions(bn_backend *backend)
{
    backend->alloc = ocl_alloc;
    backend->release = ocl_release;
    backend->upload = ocl_upload;
    backend->download = ocl_download;
    backend->fill_zero = ocl_fill_zero;
    backend->sync = ocl_sync;
    backend->usage = ocl_usage;
}
