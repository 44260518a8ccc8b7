"""Keeps the runs of each scenario, and writes RESULTS.md from what is kept."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import time

from . import cases, picture, table
from .build import COMPARE, ROOT

BENCHES = ROOT / "benches"
# What was measured, so that the page can be written again without measuring. Ignored by git.
KEPT = COMPARE / ".runs"
# Busier than this before a run, a machine has other work, and the figures are no more than a smoke test.
BUSY_PERCENT = 10

HEAD = """# Results

Written by `benches/compare/run`, which measures all of it again; what stands here is the last run of each scenario. Only ratios within
one table mean something: its peers ran in turn (A B C, A B C, …), each time with a server that was freshly started.

- **Figures** are medians of the runs, with the lowest and the highest. First comes what the server spends: nanoseconds on a CPU
  (`/proc/PID/task/*/schedstat`) between the two ends of the measured time, per delivery. Rates are on the wall's clock.
- **The server has one core, the load the other**, both in a network namespace whose loopback has an MTU of 1500. Everything is TLS 1.3
  with a P-256 certificate.
- **✗** A run with a missing, repeated or misplaced delivery is void: its figures do not count. **†** The load, not the server, may have been
  the bottleneck. **‡** The intended rate was not reached.
- **Floors** send the same bytes and do nothing else: `floor-udp` the datagrams alone; `floor-quinn` quinn without a broker, one task that
  walks the streams; `floor-tls` rustls over TCP. They allocate with the system's allocator, and `tidings` with jemalloc, with which
  `floor-quinn` costs 0.93 of what it does here (NOTES.md).
"""


def keep(scenario, runs, facts):
    KEPT.mkdir(exist_ok=True)
    text = json.dumps({**facts, "runs": runs}, indent=1)
    (KEPT / f"{scenario.name}.json").write_text(text)


def facts(peers, missing, repeats):
    """What has to be known of a run besides its figures."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": _machine(),
        "commit": _commit(),
        "versions": {peer.name: peer.version() for peer in peers},
        "missing": missing,
        "repeats": repeats,
        "busy": _busy(),
    }


def write():
    """RESULTS.md and the picture, from every scenario that is kept."""
    lines = [HEAD]
    kept = [(scenario, _kept(scenario)) for scenario in cases.ALL]
    fan_out = next((data for scenario, data in kept if scenario.name == "fan-out"), None)
    if fan_out:
        lines.append("![Server CPU per delivery](results.svg)\n")
    for scenario, data in kept:
        lines += section(scenario, data)
    lines += _page("Head-of-line blocking under loss", "LOSS.md", "Not measured yet: `benches/LOSS.md` is written by the benchmark with the lossy link.")
    lines += _page("What did not help", "NOTES.md", "Nothing is written down yet.")
    (BENCHES / "RESULTS.md").write_text("\n".join(lines))
    if fan_out:
        (BENCHES / "results.svg").write_text(picture.draw(table.Results(fan_out["runs"])))


def section(scenario, data):
    """A scenario as Markdown."""
    lines = [f"## {scenario.title}\n", f"{scenario.about}\n"]
    if not data:
        return [*lines, f"Not measured yet: `benches/compare/run --scenario {scenario.name}`.\n"]
    results = table.Results(data["runs"])
    rows, notes = table.table(scenario, results, data["versions"], data["missing"])
    lines += [*rows, ""]
    judged = table.targets(scenario, results)
    lines += [*judged, ""] if judged else []
    if data["busy"] > BUSY_PERCENT:
        notes.insert(0, f"**The machine had other work**: {data['busy']:.0f} % busy before the run. These figures are a smoke test.")
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    notes.append(f"{data['repeats']} runs each, {data['date']}, commit {data['commit']}, {data['machine']}; {versions}.")
    return lines + [f"- {note}" for note in notes] + [""]


def _kept(scenario):
    path = KEPT / f"{scenario.name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _page(title, name, otherwise):
    path = BENCHES / name
    text = path.read_text().strip() if path.exists() else otherwise
    return [f"## {title}\n", f"{text}\n"]


def _machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Linux {platform.release()}"


def _commit():
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.lock", "benches/compare/src")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


def _busy():
    """Percent of the machine's time that went elsewhere, over a second."""

    def read():
        fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        ticks = [int(field) for field in fields]
        # idle and iowait
        return sum(ticks), ticks[3] + ticks[4]

    (total, idle) = read()
    time.sleep(1)
    (total_after, idle_after) = read()
    return 100 * (1 - (idle_after - idle) / max(total_after - total, 1))
