/* Allocations and all calls of HDF5 that src/checkpoint makes; CMakeLists.txt gives
 * the linker --wrap for every row that begins with WRAP. */
#include <stdlib.h>

#define H5_USE_110_API
#include <hdf5.h>

#include "fault_sweep.h"

#define WRAP(type, name, fails, kind, parameters, arguments)                                       \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fault_strikes(kind) ? (fails) : __real_##name arguments;                            \
    }
#define WRAP_OF(type, name, fails, ...)                                                            \
    WRAP(type, name, fails, HDF5_CALL, PARAMETERS(__VA_ARGS__), ARGUMENTS(__VA_ARGS__))
#define WRAP_H5(type, name, ...) WRAP_OF(type, name, -1, __VA_ARGS__)
/* What is closed is closed, whatever the call returns. */
#define WRAP_CLOSE(name)                                                                           \
    herr_t __real_##name(hid_t id);                                                                \
    herr_t __wrap_##name(hid_t id);                                                                \
    herr_t __wrap_##name(hid_t id)                                                                 \
    {                                                                                              \
        const herr_t result = __real_##name(id);                                                   \
        return fault_strikes(HDF5_CALL) ? -1 : result;                                             \
    }

/* Types become "(T1 a, T2 b, ...)" and "(a, b, ...)". */
#define PICK(_1, _2, _3, _4, _5, _6, _7, _8, n, ...) n
#define COUNT(...)                                   PICK(__VA_ARGS__, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define JOIN_(a, b)                                  a##b
#define JOIN(a, b)                                   JOIN_(a, b)
#define PARAMETERS(...)                              (JOIN(P, COUNT(__VA_ARGS__))(__VA_ARGS__))
#define ARGUMENTS(...)                               JOIN(A, COUNT(__VA_ARGS__))
#define P1(A)                                        A a
#define P2(A, B)                                     A a, B b
#define P3(A, B, C)                                  A a, B b, C c
#define P4(A, B, C, D)                               A a, B b, C c, D d
#define P5(A, B, C, D, E)                            A a, B b, C c, D d, E e
#define P6(A, B, C, D, E, F)                         A a, B b, C c, D d, E e, F f
#define P7(A, B, C, D, E, F, G)                      A a, B b, C c, D d, E e, F f, G g
#define P8(A, B, C, D, E, F, G, H)                   A a, B b, C c, D d, E e, F f, G g, H h
#define A1                                           (a)
#define A2                                           (a, b)
#define A3                                           (a, b, c)
#define A4                                           (a, b, c, d)
#define A5                                           (a, b, c, d, e)
#define A6                                           (a, b, c, d, e, f)
#define A7                                           (a, b, c, d, e, f, g)
#define A8                                           (a, b, c, d, e, f, g, h)

WRAP(void *, malloc, NULL, ALLOCATION, (size_t a), (a))
WRAP(void *, calloc, NULL, ALLOCATION, (size_t a, size_t b), (a, b))
WRAP(void *, realloc, NULL, ALLOCATION, (void *a, size_t b), (a, b))
WRAP(void *, aligned_alloc, NULL, ALLOCATION, (size_t a, size_t b), (a, b))
WRAP(char *, strdup, NULL, ALLOCATION, (const char *a), (a))

WRAP_CLOSE(H5Aclose)
WRAP_H5(hid_t, H5Acreate2, hid_t, const char *, hid_t, hid_t, hid_t, hid_t)
WRAP_H5(htri_t, H5Aexists_by_name, hid_t, const char *, const char *, hid_t)
WRAP_H5(ssize_t, H5Aget_name_by_idx, hid_t, const char *, H5_index_t, H5_iter_order_t, hsize_t,
        char *, size_t, hid_t)
WRAP_H5(hid_t, H5Aget_space, hid_t)
WRAP_H5(hid_t, H5Aget_type, hid_t)
WRAP_H5(hid_t, H5Aopen, hid_t, const char *, hid_t)
WRAP_H5(hid_t, H5Aopen_by_name, hid_t, const char *, const char *, hid_t, hid_t)
WRAP_H5(herr_t, H5Aread, hid_t, hid_t, void *)
WRAP_H5(herr_t, H5Awrite, hid_t, hid_t, const void *)
WRAP_CLOSE(H5Dclose)
WRAP_H5(hid_t, H5Dcreate2, hid_t, const char *, hid_t, hid_t, hid_t, hid_t, hid_t)
WRAP_H5(herr_t, H5Dget_chunk_info_by_coord, hid_t, const hsize_t *, unsigned *, haddr_t *,
        hsize_t *)
WRAP_H5(hid_t, H5Dget_create_plist, hid_t)
WRAP_H5(hid_t, H5Dget_space, hid_t)
WRAP_OF(hsize_t, H5Dget_storage_size, 0, hid_t)
WRAP_H5(hid_t, H5Dget_type, hid_t)
WRAP_H5(hid_t, H5Dopen2, hid_t, const char *, hid_t)
WRAP_H5(herr_t, H5Dread, hid_t, hid_t, hid_t, hid_t, hid_t, void *)
WRAP_H5(herr_t, H5Dwrite, hid_t, hid_t, hid_t, hid_t, hid_t, const void *)
WRAP_CLOSE(H5Fclose)
WRAP_H5(hid_t, H5Fcreate, const char *, unsigned, hid_t, hid_t)
WRAP_H5(herr_t, H5Fflush, hid_t, H5F_scope_t)
WRAP_H5(herr_t, H5Fget_vfd_handle, hid_t, hid_t, void **)
WRAP_H5(hid_t, H5Fopen, const char *, unsigned, hid_t)
WRAP_CLOSE(H5Gclose)
WRAP_H5(hid_t, H5Gcreate2, hid_t, const char *, hid_t, hid_t, hid_t)
WRAP_H5(hid_t, H5Gopen2, hid_t, const char *, hid_t)
WRAP_H5(H5I_type_t, H5Iget_type, hid_t)
WRAP_H5(htri_t, H5Lexists, hid_t, const char *, hid_t)
WRAP_H5(herr_t, H5Literate, hid_t, H5_index_t, H5_iter_order_t, hsize_t *, H5L_iterate_t, void *)
WRAP_CLOSE(H5Oclose)
WRAP_H5(herr_t, H5Oget_info, hid_t, H5O_info_t *)
WRAP_H5(hid_t, H5Oopen, hid_t, const char *, hid_t)
WRAP_CLOSE(H5Pclose)
WRAP_H5(hid_t, H5Pcreate, hid_t)
WRAP_H5(int, H5Pget_chunk, hid_t, int, hsize_t *)
WRAP_H5(int, H5Pget_external_count, hid_t)
WRAP_H5(H5Z_filter_t, H5Pget_filter2, hid_t, unsigned, unsigned *, size_t *, unsigned *, size_t,
        char *, unsigned *)
WRAP_H5(H5D_layout_t, H5Pget_layout, hid_t)
WRAP_H5(int, H5Pget_nfilters, hid_t)
WRAP_H5(herr_t, H5Pset_chunk, hid_t, int, const hsize_t *)
WRAP_H5(herr_t, H5Pset_deflate, hid_t, unsigned)
WRAP_H5(herr_t, H5Pset_fclose_degree, hid_t, H5F_close_degree_t)
WRAP_H5(herr_t, H5Pset_fill_time, hid_t, H5D_fill_time_t)
WRAP_H5(herr_t, H5Pset_fletcher32, hid_t)
WRAP_H5(herr_t, H5Pset_libver_bounds, hid_t, H5F_libver_t, H5F_libver_t)
WRAP_H5(herr_t, H5Pset_obj_track_times, hid_t, hbool_t)
WRAP_H5(herr_t, H5Pset_shuffle, hid_t)
WRAP_CLOSE(H5Sclose)
WRAP_H5(hid_t, H5Screate, H5S_class_t)
WRAP_H5(hid_t, H5Screate_simple, int, const hsize_t *, const hsize_t *)
WRAP_H5(int, H5Sget_simple_extent_dims, hid_t, hsize_t *, hsize_t *)
WRAP_H5(int, H5Sget_simple_extent_ndims, hid_t)
WRAP_H5(hssize_t, H5Sget_simple_extent_npoints, hid_t)
WRAP_H5(H5S_class_t, H5Sget_simple_extent_type, hid_t)
WRAP_H5(herr_t, H5Sselect_hyperslab, hid_t, H5S_seloper_t, const hsize_t *, const hsize_t *,
        const hsize_t *, const hsize_t *)
WRAP_CLOSE(H5Tclose)
WRAP_H5(hid_t, H5Tcopy, hid_t)
WRAP_H5(htri_t, H5Tequal, hid_t, hid_t)
WRAP_H5(H5T_class_t, H5Tget_class, hid_t)
WRAP_OF(size_t, H5Tget_size, 0, hid_t)
WRAP_H5(htri_t, H5Tis_variable_str, hid_t)
WRAP_H5(herr_t, H5Tset_cset, hid_t, H5T_cset_t)
WRAP_H5(herr_t, H5Tset_ebias, hid_t, size_t)
WRAP_H5(herr_t, H5Tset_fields, hid_t, size_t, size_t, size_t, size_t, size_t)
WRAP_H5(herr_t, H5Tset_size, hid_t, size_t)
WRAP_H5(herr_t, H5Tset_strpad, hid_t, H5T_str_t)
