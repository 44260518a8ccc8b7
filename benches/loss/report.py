"""From results to a table, benches/LOSS.md and a chart."""

import itertools
import math
import statistics

COLOURS = {
    "tidings": "#0b62d6",
    "tidings-single": "#7fb2f0",
    "tls": "#d1495b",
    "nats": "#e0912f",
    "tls-bbr": "#8a2f3c",
    "nats-bbr": "#8f5b12",
    "browser": "#0b62d6",
    "browser-single": "#7fb2f0",
    "browser-websocket": "#d1495b",
    "browser-websocket-bbr": "#8a2f3c",
}
TITLES = {
    "small": "10 channels, {rate} messages/s of 500 bytes each",
    "bulk": "the same, beside a channel with 64,000-byte messages",
}
# What the project asks of itself, at 2 % loss.
TARGETS = {"tidings-single": 0.5, "tls": 0.35, "nats": 0.35, "browser-single": 0.5}
TARGET_LOSS = 2.0


def title(results, variant):
    return TITLES[variant].format(rate=results["options"].get("message_rate", 100))


def groups(results):
    """The runs of each kind that are not void, in the order in which they came first."""
    kinds = {}
    for run in results["runs"]:
        kind = kinds.setdefault((run["variant"], run["loss"], run["contender"]), {"good": [], "void": []})
        kind["void" if run["void"] else "good"].append(run)
    return kinds


def spread(values):
    return statistics.median(values), min(values), max(values)


def share(values):
    middle, least, most = (100 * value for value in spread(values))
    return f"{middle:.2f} % ({least:.2f}-{most:.2f})"


def beyond(runs, quantile):
    middle, least, most = spread([run["beyond_ms"][quantile] for run in runs])
    return f"{middle:.1f} ({least:.1f}-{most:.1f})"


def table(results):
    lines = []
    for variant in TITLES:
        heading = title(results, variant)
        rows = [(key, kind) for key, kind in groups(results).items() if key[0] == variant]
        if not rows:
            continue
        lines += [
            f"**{heading[0].upper()}{heading[1:]}**",
            "",
            "| loss | contender | late | p50, ms | p99, ms | runs | void |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for (_, loss, contender), kind in sorted(rows, key=lambda row: row[0][1]):
            good = kind["good"]
            figures = [share([run["late"] for run in good]), beyond(good, "p50"), beyond(good, "p99")] if good else ["-"] * 3
            lines.append(f"| {loss:g} % | {contender} | {' | '.join(figures)} | {len(good)} | {len(kind['void'])} |")
        lines.append("")
    return "\n".join(lines)


def ratios(results):
    kinds = groups(results)
    lines = ["| variant | late at 2 %, compared | ratio | asked |", "| --- | --- | --- | --- |"]
    for variant, contender in itertools.product(TITLES, COLOURS):
        # In the browser ours is the browser's.
        us = "browser" if contender.startswith("browser") else "tidings"
        ours, theirs = (kinds.get((variant, TARGET_LOSS, name), {"good": []})["good"] for name in (us, contender))
        if contender != us and ours and theirs:
            base = statistics.median(run["late"] for run in theirs)
            own = statistics.median(run["late"] for run in ours)
            ratio = f"{own / base:.2f}" if base else "nobody is late" if not own else "-"
            asked = TARGETS.get(contender)
            lines.append(f"| {variant} | {us} / {contender} | {ratio} | {f'at most {asked}' if asked else ''} |")
    return "\n".join(lines)


def write(results, out):
    options, machine = results["options"], results["machine"]
    (out / "loss.svg").write_text(chart(results))
    # Beside the folder where it belongs; where the results go elsewhere, among them.
    home = out.parent if out.name == "loss" else out
    picture = "loss/loss.svg" if home != out else "loss.svg"
    jobs = f", {machine['jobs']} runs at the same time" if machine["jobs"] > 1 else ""
    late = 3 * options["delay_ms"]
    text = f"""## Head-of-line blocking
What it measures: `benches/loss/run --help`. Again: `{results.get("command", "benches/loss/run")}` (root). Every run is in `{picture.replace("loss.svg", "results.json")}`, with the calibration of the link.

Round trip {2 * options['delay_ms']:g} ms, rate {options['rate']}, queue {options['queue']}; {options['seconds']} s of publishing of which the first {options['warm_up']} are not judged, {options['repeats']} repeats, interleaved; {machine['cores']} cores{jobs}, Linux {machine['kernel']},
revision {results['revision']}, {results['when']}. Late: delivered more than {late:g} ms after it was due to be sent, which is one round trip beyond the one-way delay. Times are beyond the one-way delay. Median (range) over the runs; a void run had a gap, a duplicate
or another order, did not deliver everything within a minute of the end, ran over a disturbed link, or had a server that waited long for a processor.

{table(results)}
{ratios(results)}

![Share of late messages against loss]({picture})
"""
    (home / "LOSS.md").write_text(text)


# The chart: a panel for each variant, the share of late messages on a logarithmic scale against loss.
WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 260, 70, 60, 50
FLOOR = 1e-4


def chart(results):
    kinds = groups(results)
    variants = [variant for variant in TITLES if any(key[0] == variant for key in kinds)]
    losses = sorted({key[1] for key in kinds})
    named = [name for name in COLOURS if any(key[2] == name for key in kinds)]
    # The legend: so wide a place for each name, so many in a row.
    place = 40 + 7 * max(map(len, named))
    width = LEFT + len(variants) * (WIDTH + GAP)
    row = (width - LEFT) // place
    height = TOP + HEIGHT + 70 + 20 * math.ceil(len(named) / row)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">Messages later than one round trip</text>',
    ]
    for number, variant in enumerate(variants):
        parts += panel(kinds, title(results, variant), variant, losses, LEFT + number * (WIDTH + GAP))
    for number, name in enumerate(named):
        x, y = LEFT + number % row * place, TOP + HEIGHT + 68 + 20 * (number // row)
        parts.append(f'<line x1="{x}" x2="{x + 22}" y1="{y - 4}" y2="{y - 4}" stroke="{COLOURS[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 28}" y="{y}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(kinds, heading, variant, losses, left):
    def at(value):
        return TOP + HEIGHT * math.log10(max(value, FLOOR)) / math.log10(FLOOR)

    def across(loss):
        return left + WIDTH * (losses.index(loss) + 0.5) / len(losses)

    parts = [f'<text x="{left}" y="{TOP - 12}">{heading}</text>']
    for value, label in [(1, "100 %"), (0.1, "10 %"), (0.01, "1 %"), (0.001, "0.1 %"), (FLOOR, "0.01 % or less")]:
        parts.append(f'<line x1="{left}" x2="{left + WIDTH}" y1="{at(value):.1f}" y2="{at(value):.1f}" stroke="#ddd"/>')
        if left == LEFT:
            text = label.split(" or")[0] if value == FLOOR else label
            parts.append(f'<text x="{left - 6}" y="{at(value) + 4:.1f}" text-anchor="end">{"≤ " if value == FLOOR else ""}{text}</text>')
    for loss in losses:
        parts.append(f'<text x="{across(loss):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{loss:g} %</text>')
    parts.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">packet loss, each way</text>')
    for contender, colour in COLOURS.items():
        points = []
        for loss in losses:
            good = kinds.get((variant, loss, contender), {"good": []})["good"]
            if good:
                middle, least, most = spread([run["late"] for run in good])
                points.append(f"{across(loss):.1f},{at(middle):.1f}")
                parts.append(f'<line x1="{across(loss):.1f}" x2="{across(loss):.1f}" y1="{at(least):.1f}" y2="{at(most):.1f}" stroke="{colour}" opacity="0.5"/>')
                parts.append(f'<circle cx="{across(loss):.1f}" cy="{at(middle):.1f}" r="3.5" fill="{colour}"/>')
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return parts
