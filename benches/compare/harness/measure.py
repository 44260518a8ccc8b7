"""Runs the cases, in an order that gives every peer the same machine."""

import dataclasses
import json
import os
import subprocess
import sys

from peers.base import Missing

# Beyond its schedule a load takes this long at the most: 10,000 handshakes, the memory's rest, and what is late.
GRACE_SECONDS = 180
# Of an error of the load, what is shown.
ERROR_LENGTH = 400
# The ladder for a peer's peak: deliveries per second, its steps, how long each is tried, and how often where it does not hold.
# A queue that grows by 3 % of a second's work has 150 ms after five.
FIRST_RATE, STEP, TRY_SECONDS, TRIES = 20_000, 1.3, 5.0, 2
# Queues that grow show as latency before they show as a rate.
PEAK_P99_US = 100_000


def measure(scenario, peers, repeats, place, programs, quick=False, say=print):
    """`{case: {peer: [run]}}`: A B C, A B C, … for each case. A run is the load's report, or `{"failed": why}`."""
    runs, peaks = {}, {}
    for repeat in range(repeats):
        for case in scenario.cases:
            case = case.quick() if quick else case
            for peer in peers:
                if case.kind not in peer.scenarios:
                    continue
                run = _run(peer, case, place, programs, peaks) | {"kind": case.kind}
                runs.setdefault(case.label, {}).setdefault(peer.name, []).append(run)
                say(f"{scenario.name} {repeat + 1}/{repeats}  {case.label:18} {peer.name:22} {_short(run)}")
    return runs


def _run(peer, case, place, programs, peaks):
    try:
        if case.peak:
            if peer.name not in peaks:
                peaks[peer.name] = _peak(peer, case, place, programs)
            case = case.at(peaks[peer.name] * case.peak)
        return _load(peer, case, place, programs)
    except Missing as error:
        return {"failed": str(error)}


def _peak(peer, case, place, programs):
    """The highest rate that holds, and at which the load does not hold the peer up."""
    rate, best = FIRST_RATE, None
    case = dataclasses.replace(case, duration=TRY_SECONDS)
    # A pause of the machine may spoil a try.
    while any(_holds(_load(peer, case.at(rate), place, programs)) for _ in range(TRIES)):
        best, rate = rate, rate * STEP
    if best is None:
        raise Missing(f"{peer.name} does not hold {FIRST_RATE:,} deliveries a second, where the ladder begins")
    return best


def _holds(report):
    served = report.get("reached") and not report["void"] and not report["client_bound"]
    return served and report["latency"]["p99"] < PEAK_P99_US


def _load(peer, case, place, programs):
    """One server, one load, both ended."""
    server = peer.start(place, case)
    try:
        arguments = case.load_arguments() + server.extra
        if peer.load:
            fixed = ["--peer", peer.load, "--address", server.address, "--server-pid", str(server.pid)]
            argv = [programs["load"], *fixed, *arguments]
        else:
            argv = peer.load_command(place, server, arguments)
        limit = case.warmup + case.duration + GRACE_SECONDS
        environment = {**os.environ, "RUST_BACKTRACE": "0"}
        result = subprocess.run(place.command(place.CLIENT, argv), capture_output=True, text=True, timeout=limit, env=environment)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"the load did not end in {limit:.0f} s") from error
    finally:
        server.stop()
    if result.returncode != 0:
        raise Missing(" ".join(result.stderr.split())[:ERROR_LENGTH] or f"the load ended with {result.returncode}")
    try:
        return json.loads(result.stdout)
    except ValueError as error:
        raise Missing(f"the load printed no JSON: {result.stdout[:200]!r}") from error


def _short(run):
    if "failed" in run:
        return f"FAILED: {run['failed']}"
    if run["void"]:
        return f"VOID: {'; '.join(run['void'])}"
    words = [f"{run['server_us']:8.2f} µs"] if run.get("server_us") is not None else []
    words.append(f"{run['rate']:10,.0f}/s")
    if run.get("latency"):
        words.append(f"p99 {run['latency']['p99'] / 1000:.1f} ms")
    if run["client_bound"]:
        words.append(f"client-bound: {'; '.join(run['client_bound'])}")
    return "  ".join(words)


def install(peers, say=print):
    """Those that are there now, and `{name: why not}` of the others: a peer that is missing is shouted, never left out."""
    there, missing = [], {}
    for peer in peers:
        try:
            if not peer.installed():
                say(f"installing {peer.name} …")
                peer.install()
            peer.version()
            there.append(peer)
        except Missing as error:
            missing[peer.name] = str(error)
            print(f"MISSING: {peer.name}: {error}", file=sys.stderr)
    return there, missing
