"""Runs as figures: medians, ranges, ratios, and whether a target is met. Nothing here knows a file or a process."""

import statistics

KIB, MIB = 1024, 1024 * 1024


def _memory(of, kinds):
    """A figure of memory, for the kinds of cases in which it means something."""
    return lambda run: of(run["memory"]) if run.get("memory") and run["kind"] in kinds else None


def _latency(name):
    return lambda run: run["latency"][name] / 1000 if run.get("latency") else None


# name: (heading, digits after the point, how a run tells it)
METRICS = {
    "server_us": ("server CPU, µs", 2, lambda run: run.get("server_us") if run["kind"] != "idle" else None),
    "rate": ("per second", 0, lambda run: run.get("rate") if run["kind"] != "idle" else None),
    "server_busy": ("server's core, %", 0, lambda run: run["server_busy"] * 100 if run.get("server_busy") is not None else None),
    "per_datagram": ("messages a datagram", 2, lambda run: run.get("per_datagram")),
    "p50": ("p50, ms", 2, _latency("p50")),
    "p99": ("p99, ms", 2, _latency("p99")),
    "p999": ("p99.9, ms", 2, _latency("p999")),
    "max": ("max, ms", 2, _latency("max")),
    "memory": ("KiB a connection", 2, _memory(lambda memory: memory["per_connection"] / KIB, {"idle"})),
    "channel_memory": ("KiB a channel", 2, _memory(lambda memory: memory["per_connection"] / KIB, {"channels"})),
    "growth": ("growth, MiB", 1, _memory(lambda memory: (memory["end"] - memory["connected"]) / MIB, {"slow", "churn"})),
}
REFERENCE = "floor-quinn"


class Results:
    """`{case: {peer: [run]}}` of one scenario."""

    def __init__(self, runs):
        self.runs = runs

    def good(self, case, peer):
        """Runs whose figures count."""
        return [run for run in self.runs.get(case, {}).get(peer, []) if "failed" not in run and not run["void"]]

    def values(self, case, peer, metric):
        told = [METRICS[metric][2](run) for run in self.good(case, peer)]
        return [value for value in told if value is not None]

    def median(self, case, peer, metric):
        values = self.values(case, peer, metric)
        return statistics.median(values) if values else None


def number(value, digits):
    return f"{value:,.{digits}f}"


def cell(values, digits):
    """`median [min-max]`; one value stands alone, none is a dash."""
    if not values:
        return "–"
    median = number(statistics.median(values), digits)
    if len(values) == 1:
        return median
    return f"{median} [{number(min(values), digits)}–{number(max(values), digits)}]"


def table(scenario, results, versions, missing):
    """The scenario's table in Markdown, and what is to be said of its rows."""
    heads = ["case", "peer"] + [_heading(column, scenario) for column in scenario.columns]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * 2 + " ---: |" * len(scenario.columns)]
    notes = []
    for case, peers in results.runs.items():
        for peer, runs in peers.items():
            mark = _judge(case, peer, runs, notes)
            cells = [case, f"{peer}{mark}"] + [_column(column, scenario, results, case, peer) for column in scenario.columns]
            lines.append(f"| {' | '.join(cells)} |")
    for peer, why in missing.items():
        lines.append(f"| all | **{peer}: MISSING** |" + " – |" * len(scenario.columns))
        notes.append(f"**{peer} is missing**: {why}")
    return lines, notes


def targets(scenario, results):
    """A table of what is asked, what was measured, and whether that is enough."""
    if not scenario.targets:
        return []
    lines = ["| target | measured | |", "| --- | ---: | --- |"]
    for target in scenario.targets:
        value = target.figure(results)
        if value is None:
            lines.append(f"| {target.text} | – | not measured |")
        else:
            verdict = "met" if target.is_met(value) else "**not met**"
            lines.append(f"| {target.text} | {value:.2f}{target.unit} | {verdict} |")
    return lines


def _heading(column, scenario):
    if column == "ratio":
        return f"{METRICS[scenario.columns[0]][0].split(',')[0]}, × {REFERENCE}"
    return METRICS[column][0]


def _column(column, scenario, results, case, peer):
    if column != "ratio":
        return cell(results.values(case, peer, column), METRICS[column][1])
    mine, floor = (results.median(case, who, scenario.columns[0]) for who in (peer, REFERENCE))
    return number(mine / floor, 2) if mine is not None and floor else "–"


def _judge(case, peer, runs, notes):
    """The marks of a row; their reasons go to the notes."""
    mark = ""
    for sign, what, reasons in [
        ("✗", "failed", [run["failed"] for run in runs if "failed" in run]),
        ("✗", "void", ["; ".join(run["void"]) for run in runs if run.get("void")]),
        ("†", "client-bound", ["; ".join(run["client_bound"]) for run in runs if run.get("client_bound")]),
        ("‡", "below the intended rate", [_short_of(run) for run in runs if run.get("reached") is False]),
    ]:
        if reasons:
            mark += f" {sign}" if sign not in mark else ""
            notes.append(f"{sign} {case}, {peer}: {what} in {len(reasons)} of {len(runs)} runs ({reasons[0]})")
    return mark


def _short_of(run):
    return f"{run['rate']:,.0f} of {run['offered']:,.0f} a second"
