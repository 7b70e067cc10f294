#!/usr/bin/env python3
"""The layering check must see each kind of violation, planted one at a time in
a small clean tree, and must not see any in that tree."""
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_layering import MAX_LINES, check  # noqa: E402

CLEAN = {
    "src/base/a.h": "#include <stdio.h>\n/* never exit() here; stdout is not ours */\n",
    "src/base/a.c": '#include "base/a.h"\n#include "b_impl.h"\nconst char *t = "abort() // x";\n',
    "src/base/b_impl.h": "int snprintf_count(void);\n",
    "src/checkpoint/h5.c": '#include <hdf5.h>\n#include "tensor/t.h"\n',
    "src/tensor/t.h": '#include "base/a.h"\n',
    "src/opencl/cl.c": "#include <CL/cl.h>\n",
    "src/cpu/avx2/k.c": "#include <immintrin.h>\n",
    "src/cpu/neon/k.c": "#include <arm_neon.h>\n",
    "src/cpu/blas/b.c": "#include <cblas.h>\n",
    "src/linalg/l.c": "#include <lapacke.h>\n#include <cblas.h>\n",
    "src/data/s.c": "#include <pcre2.h>\n",
    "train/t.c": '#include "train/t.h"\n#include "model/m.h"\nint main(void) { printf(""); }\n',
    "train/t.h": "",
    "src/model/m.h": '// #include "train/t.h"\n/* #include <hdf5.h> */\n',
}

PLANTED = [  # path, text added at the end, part of the message
    ("src/base/a.c", '#include "tensor/t.h"', "base (layer 0) includes"),
    ("src/tensor/t.h", '#include "config/c.h"', "tensor (layer 1) includes"),
    ("src/tensor/t.h", '  #  include "model/m.h"', "tensor (layer 1) includes"),
    ("src/model/m.h", '#include "train/t.h"', "model (layer 6) includes"),
    ("train/t.c", '#include "tools/u.h"', "train (layer 7) includes"),
    ("src/base/a.c", '#include "../tensor/t.h"', "climbs out"),
    ("src/base/a.c", '#include "elsewhere/t.h"', "is no module"),
    ("src/base/a.c", '#include "nothing.h"', "is not beside the file"),
    ("src/misc/new.c", "int x;", '"misc" has no layer'),
    ("src/tensor/t.h", "#include <hdf5.h>", "src/checkpoint alone"),
    ("src/tensor/t.h", "#include <H5Fpublic.h>", "src/checkpoint alone"),
    ("tools/x.c", "#include <hdf5.h>", "src/checkpoint alone"),
    ("src/tensor/t.h", '#include "hdf5.h"', "src/checkpoint alone"),
    ("src/cpu/k.c", "#include <CL/cl.h>", "src/opencl alone"),
    ("src/cpu/k.c", "#include <immintrin.h>", "src/cpu/<isa> alone"),
    ("src/cpu/ref/k.c", "#include <emmintrin.h>", "src/cpu/<isa> alone"),
    ("src/cpu/k.c", "#include <arm_neon.h>", "src/cpu/<isa> alone"),
    ("src/cpu/avx2/k.c", "#include <cblas.h>", "src/cpu/blas and src/linalg alone"),
    ("src/base/a.c", "#include <lapacke.h>", "src/linalg alone"),
    ("src/config/k.c", "#include <pcre2.h>", "src/data alone"),
    ("src/base/a.c", "void f(void) { exit(1); }", "exit: nothing below a main"),
    ("src/base/a.c", "void f(void) { abort (); }", "abort: nothing below a main"),
    ("src/base/a.c", 'void f(void) { printf("x"); }', "printf: nothing below a main"),
    ("src/base/a.c", 'void f(void) { fprintf(stderr, "x"); }', "stderr: nothing below a main"),
    ("src/base/a.c", 'void f(void) { fputs("\\"", stdout); }', "stdout: nothing below a main"),
    ("src/base/a.c", "\n" * MAX_LINES, f"the limit is {MAX_LINES}"),
    ("tests/long.py", "\n" * MAX_LINES, f"the limit is {MAX_LINES}"),
]


def plant(root, path, text):
    path = os.path.join(root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a", encoding="utf-8") as f:
        f.write(text + "\n")


class Layering(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        for path, text in CLEAN.items():
            plant(self.root, path, text)

    def test_clean_tree(self):
        self.assertEqual(check(self.root), [])

    def test_each_violation(self):
        for path, text, message in PLANTED:
            with self.subTest(path=path, message=message):
                full = os.path.join(self.root, path)
                old = None
                if os.path.exists(full):
                    with open(full, encoding="utf-8") as f:
                        old = f.read()
                plant(self.root, path, text)
                found = check(self.root)
                self.assertEqual(len(found), 1, found)
                self.assertTrue(found[0].startswith(path + ":"), found)
                self.assertIn(message, found[0])
                os.remove(full)
                if old is not None:
                    plant(self.root, path, old[:-1])

    def test_names_the_line(self):
        plant(self.root, "src/base/c.c", "/*\n\n*/\n\n#include <hdf5.h>")
        self.assertEqual(len(check(self.root)), 1)
        self.assertTrue(check(self.root)[0].startswith("src/base/c.c:5: "))


if __name__ == "__main__":
    unittest.main()
