/* op_cases.h - operands for every op: the list that the gradient checks, the
 * comparison of kernels and the benches loop over. Values are made from the
 * case's name, so they are the same in every program and in any order. */
#ifndef BN_TESTS_OPS_OP_CASES_H
#define BN_TESTS_OPS_OP_CASES_H

#include "autograd/gradcheck.h"

typedef struct op_case {
    char name[64];
    bn_op_spec spec;
    bn_gradcheck_options check;
    void *owned[BN_MAX_IN]; /* spec.data */
} op_case;

typedef struct op_case_list {
    op_case *items;
    int count, capacity;
} op_case_list;

/* All cases of all ops; out of memory ends the test program. */
op_case_list op_cases_new(void);
void op_cases_free(op_case_list *list);

/* Calls check() with every case of `op`; returns how many. */
int op_cases_each(bn_backend *backend, bn_op op,
                  void (*check)(bn_backend *backend, const op_case *k, void *arg), void *arg);

#endif
