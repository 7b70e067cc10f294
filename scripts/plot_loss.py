#!/usr/bin/env python3
"""Draws the loss curves of one or more runs as an SVG file.

usage: plot_loss.py OUT.svg LABEL=RUN_DIR [LABEL=RUN_DIR ...]

Reads RUN_DIR/metrics.jsonl. Thin line: training loss (mean of neighbouring
lines); dots: validation loss. Needs nothing but Python.
"""
import json
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 56, 16, 16, 44
COLOURS = ["#1f6fb4", "#d1662a", "#3a8f3a", "#8a4fb0"]


def read(folder):
    train, val = [], []
    with open(f"{folder}/metrics.jsonl") as lines:
        for line in lines:
            row = json.loads(line)
            if row.get("loss") is not None:
                train.append((row["step"], row["loss"]))
            if row.get("val_loss") is not None:
                val.append((row["step"], row["val_loss"]))
    return train, val


def smooth(points, reach=4):
    out = []
    for i, (step, _) in enumerate(points):
        near = [y for _, y in points[max(0, i - reach):i + reach + 1]]
        out.append((step, sum(near) / len(near)))
    return out


def main():
    out, *runs = sys.argv[1:]
    curves = [(label, *read(folder)) for label, folder in (r.split("=", 1) for r in runs)]
    x_max = max(step for _, train, val in curves for step, _ in train + val)
    y_all = [y for _, train, val in curves for _, y in train + val]
    y_min, y_max = min(y_all) - 0.05, min(max(y_all), min(y_all) + 2.5)

    def at(step, y):
        y = min(y, y_max)
        return (LEFT + (WIDTH - LEFT - RIGHT) * step / x_max,
                TOP + (HEIGHT - TOP - BOTTOM) * (y_max - y) / (y_max - y_min))

    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    tick = 0.25 if y_max - y_min < 2 else 0.5
    y = (int(y_min / tick) + 1) * tick
    while y < y_max:
        _, py = at(0, y)
        svg.append(f'<line x1="{LEFT}" y1="{py:.1f}" x2="{WIDTH - RIGHT}" y2="{py:.1f}" stroke="#ddd"/>')
        svg.append(f'<text x="{LEFT - 8}" y="{py + 4:.1f}" text-anchor="end">{y:.2f}</text>')
        y += tick
    for i in range(6):
        step = round(x_max * i / 5)
        px, _ = at(step, y_min)
        svg.append(f'<text x="{px:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step}</text>')
    svg.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">step</text>')
    svg.append(f'<text x="{LEFT - 40}" y="{TOP + 4}" font-size="11">nats</text>')
    for i, (label, train, val) in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in smooth(train)))
        svg.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
        for p in val:
            x, y = at(*p)
            svg.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        last = f", validation {val[-1][1]:.3f}" if val else ""
        svg.append(f'<text x="{WIDTH - RIGHT - 8}" y="{TOP + 20 + 18 * i}" text-anchor="end" '
                   f'fill="{colour}">{label}{last}</text>')
    svg.append("</svg>")
    with open(out, "w") as file:
        file.write("\n".join(svg) + "\n")


main()
