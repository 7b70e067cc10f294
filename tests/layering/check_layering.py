#!/usr/bin/env python3
"""Checks the rules of the tree that a compiler does not: who may include whom,
which folder is the door to which library, what a library must not call, and
how long a file may be.

usage: check_layering.py ROOT; one line per violation, exit 1 if there is any.
"""
import os
import re
import sys

LAYERS = {
    "base": 0,
    "config": 1, "tensor": 1,
    "quant": 2, "linalg": 2, "data": 2, "backend": 2,
    "cpu": 3, "opencl": 3, "checkpoint": 3, "interop": 3,
    "autograd": 4,
    "layers": 5,
    "model": 6,
    "train": 7, "tools": 7,
}

# system header -> (the folders that may include it, in words)
DOORS = [
    (re.compile(r"hdf5(_hl)?\.h|H5\w*\.h"), re.compile(r"src/checkpoint/"), "src/checkpoint"),
    (re.compile(r"CL/.*"), re.compile(r"src/opencl/"), "src/opencl"),
    (re.compile(r"\w*intrin\.h|arm_(neon|sve)\.h"),
     re.compile(r"src/cpu/(sse|avx|neon|sve)\w*/"), "src/cpu/<isa>"),
    (re.compile(r"pcre2(posix)?\.h|utf8proc\.h"), re.compile(r"src/data/"), "src/data"),
    (re.compile(r"(cblas|openblas_config)\.h"), re.compile(r"src/(cpu/blas|linalg)/"),
     "src/cpu/blas and src/linalg"),
    (re.compile(r"lapacke\w*\.h"), re.compile(r"src/linalg/"), "src/linalg"),
]

FORBIDDEN = re.compile(
    r"\b(exit|_exit|_Exit|quick_exit|abort|printf|vprintf|puts|putchar|perror)\s*\("
    r"|\b(stdout|stderr)\b")

# A process of its own, made by fork, has to end somewhere.
MAY_EXIT = {"src/checkpoint/h5_child.c"}

MAX_LINES = 900
LENGTH_FOLDERS = ("src", "train", "tools", "bench", "tests", "scripts")
LENGTH_SUFFIXES = (".c", ".h", ".inc", ".def", ".cl", ".py", ".sh")
CODE_SUFFIXES = (".c", ".h", ".inc", ".def")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]*)"|<([^>]*)>)', re.M)
COMMENT_OR_TEXT = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


def files(root, folders, suffixes):
    """Paths relative to root, sorted."""
    found = []
    for folder in folders:
        for where, _, names in os.walk(os.path.join(root, folder)):
            found += [os.path.relpath(os.path.join(where, name), root)
                      for name in names if name.endswith(suffixes)]
    return sorted(found)


def blank(match):
    """Comments go, texts become empty; line numbers stay."""
    text = match.group(0)
    if text[0] == "/":
        return " " + "\n" * text.count("\n")
    return text[0] * 2


def without_comments(source):
    return COMMENT_OR_TEXT.sub(lambda m: blank(m) if m.group(0)[0] == "/" else m.group(0), source)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def module_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "src" else parts[0]


def check_own_include(root, path, header):
    """A quoted include: None, or what is wrong with it."""
    module = module_of(path)
    if ".." in header.split("/"):
        return f'"{header}" climbs out of its folder; include paths start at src/'
    if "/" not in header:
        beside = os.path.join(root, os.path.dirname(path), header)
        return None if os.path.exists(beside) else f'"{header}" is not beside the file'
    target = header.split("/")[0]
    if target not in LAYERS:
        return f'"{header}": "{target}" is no module'
    if target != module and LAYERS[target] >= LAYERS[module]:
        return (f'{module} (layer {LAYERS[module]}) includes "{header}" '
                f"(layer {LAYERS[target]})")
    return None


def check_system_include(path, header):
    for pattern, allowed, words in DOORS:
        if pattern.fullmatch(header) and not allowed.match(path):
            return f"<{header}> is for {words} alone"
    return None


def check_source(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        code = without_comments(f.read())
    module = module_of(path)
    if module not in LAYERS:
        yield 1, f'"{module}" has no layer'
        return
    for match in INCLUDE.finditer(code):
        own, system = match.groups()
        # A library's header in quotes is still that library's header.
        problem = check_system_include(path, own or system)
        if not problem and own:
            problem = check_own_include(root, path, own)
        if problem:
            yield line_of(code, match.start()), problem
    if path.startswith("src/"):
        calls = COMMENT_OR_TEXT.sub(blank, code)
        for match in FORBIDDEN.finditer(calls):
            word = match.group(1) or match.group(2)
            if word == "_exit" and path in MAY_EXIT:
                continue
            yield line_of(calls, match.start()), f"{word}: nothing below a main prints or exits"


def check(root):
    violations = []
    for path in files(root, ("src", "train", "tools"), CODE_SUFFIXES):
        violations += [f"{path}:{line}: {text}" for line, text in check_source(root, path)]
    for path in files(root, LENGTH_FOLDERS, LENGTH_SUFFIXES):
        with open(os.path.join(root, path), "rb") as f:
            lines = f.read().count(b"\n")
        if lines > MAX_LINES:
            violations.append(f"{path}:{lines}: {lines} lines, the limit is {MAX_LINES}")
    return violations


def main():
    if len(sys.argv) != 2 or not os.path.isdir(os.path.join(sys.argv[1], "src")):
        sys.exit("usage: check_layering.py ROOT (a folder with src/ in it)")
    violations = check(sys.argv[1])
    print("\n".join(violations) if violations else "layering: no violation")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
