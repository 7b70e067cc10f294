#!/usr/bin/env python3
"""Breaks the code one place at a time and shows that the tests notice.

usage: scripts/mutate.py [--jobs N] [--only TEXT] FOLDER

Copies the working tree to FOLDER/src, builds them in FOLDER/build, and for
each mutant of scripts/mutate.txt changes one place, builds again and runs the
tests it names. Prints a Markdown table; exit 1 when a mutant survived, did not
compile, or its tests were red before.
"""
import argparse
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "scripts", "mutate.txt")


def read_table(path):
    """A list of {"file", "-", "+", "test"}."""
    mutants = []
    with open(path, encoding="utf-8") as f:
        text = "\n".join(line for line in f.read().split("\n") if not line.startswith("#"))
    for block in re.split(r"\n\s*\n", text.strip()):
        fields = {}
        for line in block.strip().split("\n"):
            match = re.fullmatch(r"(file|test|-|\+):? +(.*\S)\s*", line)
            if not match or match.group(1) in fields:
                sys.exit(f"{path}: not understood: {line}")
            fields[match.group(1)] = match.group(2)
        if set(fields) != {"file", "-", "+", "test"}:
            sys.exit(f"{path}: a mutant has file, -, + and test: {block}")
        mutants.append(fields)
    return mutants


class Tree:
    def __init__(self, folder, jobs):
        self.source = os.path.join(folder, "src")
        self.build = os.path.join(folder, "build")
        self.log = os.path.join(folder, "log.txt")
        self.jobs = jobs

    def run(self, *command):
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            return subprocess.run(command, stdout=log, stderr=log, check=False).returncode

    def prepare(self):
        os.makedirs(self.source, exist_ok=True)
        files = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others",
                                "--exclude-standard"], capture_output=True,
                               check=True).stdout.decode().split("\0")
        for name in filter(None, files):
            self.copy(name)
        if self.run("cmake", "-S", self.source, "-B", self.build, "-DCMAKE_BUILD_TYPE=Debug",
                    "-DCMAKE_C_FLAGS_DEBUG=-O2", "-DBITNET_OPENCL=OFF", "-DBITNET_BENCHES=OFF"):
            sys.exit(f"cmake failed, see {self.log}")

    def copy(self, name):
        """Writes only what differs, so that little is built again."""
        source, target = os.path.join(ROOT, name), os.path.join(self.source, name)
        if not os.path.isfile(source):
            return
        with open(source, "rb") as f:
            content = f.read()
        if os.path.isfile(target):
            with open(target, "rb") as f:
                if f.read() == content:
                    return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as f:
            f.write(content)
        os.chmod(target, os.stat(source).st_mode)

    def targets(self, expression):
        """What to build for the tests: their programs, or all."""
        listing = subprocess.run(["ctest", "--test-dir", self.build, "-N", "-R", expression],
                                 capture_output=True, text=True, check=False).stdout
        names = re.findall(r"Test +#\d+: (\S+)", listing)
        if not names:
            sys.exit(f"no test matches {expression}")
        # Most tests are named as their programs are.
        names = [re.sub(r"^fuzz_", "test_fuzz_", name) for name in names]
        return ["write_packed" if name.startswith("oracle_packed") else name for name in names]

    def make(self, targets):
        return self.run("cmake", "--build", self.build, "--parallel", str(self.jobs), "--target",
                        *sorted(set(targets))) == 0

    def test(self, expression):
        """"green", "red", or "too slow" when a test ran out of time."""
        # What a test needs to have run before comes along as a ctest fixture.
        done = subprocess.run(["ctest", "--test-dir", self.build, "-R", expression,
                               "--no-tests=error", "--stop-on-failure"],
                              capture_output=True, text=True, check=False)
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode == 0:
            return "green"
        return "too slow" if "***Timeout" in done.stdout else "red"


def try_mutant(tree, mutant):
    path = os.path.join(tree.source, mutant["file"])
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if text.count(mutant["-"]) != 1:
        return f"the text occurs {text.count(mutant['-'])} times"
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(mutant["-"], mutant["+"]))
    try:
        if not tree.make(tree.targets(mutant["test"])):
            return "does not compile"
        return {"green": "survived", "red": "killed"}.get(tree.test(mutant["test"]), "too slow")
    finally:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def main():
    parser = argparse.ArgumentParser(description="mutation check, see the head of this file")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="mutants whose file or text has this in it")
    parser.add_argument("folder")
    args = parser.parse_args()
    mutants = [m for m in read_table(TABLE) if any(args.only in value for value in m.values())]
    tree = Tree(os.path.abspath(args.folder), args.jobs)
    tree.prepare()
    tests = "|".join(sorted({m["test"] for m in mutants}))
    if not tree.make(tree.targets(tests)) or tree.test(tests) != "green":
        sys.exit(f"the tests are not green before anything is changed, see {tree.log}")
    print("| file | original | mutant | tests | result | s |\n|---|---|---|---|---|---|", flush=True)
    bad = 0
    for mutant in mutants:
        start = time.monotonic()
        result = try_mutant(tree, mutant)
        bad += result != "killed"
        cells = [mutant["file"], f"`{mutant['-']}`", f"`{mutant['+']}`", f"`{mutant['test']}`",
                 result, f"{time.monotonic() - start:.0f}"]
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |", flush=True)
    print(f"\n{len(mutants)} mutants, {len(mutants) - bad} killed, {bad} not")
    return 1 if bad or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
