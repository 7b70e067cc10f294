#!/usr/bin/env python3
"""Writes scikit-learn's 8x8 digits as a table for bitnet-train: 64 features and
the class per line (docs/classifier.md).

usage: digits_table.py OUT.csv [WHEEL]
WHEEL is a scikit_learn-*.whl file (pip download --no-deps scikit-learn);
without it scikit-learn itself must be importable.
"""
import gzip
import sys
import zipfile

MEMBER = "sklearn/datasets/data/digits.csv.gz"


def from_wheel(path):
    with zipfile.ZipFile(path) as wheel:
        return gzip.decompress(wheel.read(MEMBER)).decode()


def from_package():
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = zip(digits.data, digits.target)
    return "".join(",".join(f"{v:g}" for v in (*x, y)) + "\n" for x, y in rows)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    text = from_wheel(sys.argv[2]) if len(sys.argv) == 3 else from_package()
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write(text)


if __name__ == "__main__":
    main()
