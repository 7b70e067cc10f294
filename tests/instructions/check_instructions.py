#!/usr/bin/env python3
"""Counts the instructions of kernels with callgrind and compares them with
counts.txt: times on shared machines drift, instructions do not.

usage: check_instructions.py PROGRAM COMPILER [COUNTS]

A kernel may take 3 % more than its count. Counts belong to a compiler and an
instruction set; a kernel without one fails, and the line to add is printed. ctest
runs it where counts.txt has lines for the compiler: for another, run it by hand.
"""
import glob
import os
import re
import subprocess
import sys

TOLERANCE = 0.03


def count(program):
    """The instruction set, and {kernel: instructions}."""
    for old in glob.glob("counted.*"):
        os.remove(old)
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=counted",
                           "--toggle-collect=counted", "--dump-after=counted", program],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"check_instructions: {program} under valgrind exited {done.returncode}:\n"
                 + done.stderr)
    isa, *names = done.stdout.split()
    totals = []
    for part in range(1, len(names) + 1):
        with open(f"counted.{part}", encoding="ascii") as f:
            totals.append(int(re.search(r"^totals: (\d+)", f.read(), re.M).group(1)))
    return isa, dict(zip(names, totals))


def main(program, compiler, counts=os.path.join(os.path.dirname(__file__), "counts.txt")):
    isa, found = count(program)
    with open(counts, encoding="ascii") as f:
        lines = [line.split() for line in f if not line.startswith("#")]
    known = {(c, i, name): int(n) for c, i, name, n in lines}
    good = True
    for name, n in found.items():
        expected = known.get((compiler, isa, name))
        fault = ""
        if expected is None:
            fault = "   NO COUNT YET"
        elif n > expected * (1 + TOLERANCE):
            fault = "   SLOWER"
        said = f"   expected {expected}" if expected not in (None, n) else ""
        print(f"{compiler} {isa} {name} {n}{said}{fault}")
        good &= not fault and n > 0
    missing = [name for c, i, name in known if (c, i) == (compiler, isa) and name not in found]
    for name in missing:
        print(f"{compiler} {isa} {name}   NOT COUNTED")
    return 0 if good and not missing else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
