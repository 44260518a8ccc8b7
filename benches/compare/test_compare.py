"""Tests of the comparison: its figures, its page, and one run of Tidings and the floor of quinn.

    python3 -m unittest discover benches/compare

The run needs root and builds the release server; where it cannot be root's it fails and says so.
"""

import pathlib
import re
import subprocess
import sys
import unittest
import unittest.mock
import xml.etree.ElementTree

COMPARE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(COMPARE))

from harness import build, cases, measure, picture, results, table  # noqa: E402
from harness.cases import Case, Scenario, Target, difference, ratio, value  # noqa: E402
from peers.base import Missing  # noqa: E402


def run(server_us, **more):
    """A run as the load reports it."""
    report = {"void": [], "client_bound": [], "kind": "sparse", "server_us": server_us, "rate": 50_000.0, "reached": True}
    return {**report, "offered": 50_000.0, **more}


SCENARIO = Scenario(
    "test",
    "Test",
    "About.",
    [Case("one", "sparse"), Case("two", "sparse")],
    ["server_us", "ratio", "rate"],
    [
        Target("one: ≤ 1.10 × floor-quinn", ratio("server_us", "one", "floor-quinn"), 1.10),
        Target("one: ≥ 5 messages", value("per_datagram", "one"), 5, at_least=True, unit=""),
        Target("one: ≤ 0.5 × nats", ratio("server_us", "one", "nats"), 0.5),
    ],
)


class Figures(unittest.TestCase):
    def test_medians_leave_out_runs_that_are_void_or_failed(self):
        runs = [run(4.0), run(1.0), run(2.0), run(99.0, void=["1 deliveries are missing"]), {"failed": "no", "kind": "sparse"}]
        figures = table.Results({"one": {"tidings": runs}})
        self.assertEqual(figures.median("one", "tidings", "server_us"), 2.0)
        self.assertEqual(figures.values("one", "tidings", "server_us"), [4.0, 1.0, 2.0])
        self.assertIsNone(figures.median("one", "nats", "server_us"))
        self.assertIsNone(figures.median("two", "tidings", "server_us"))

    def test_a_cell_is_the_median_and_the_range(self):
        self.assertEqual(table.cell([3.0, 1.0, 2.0], 2), "2.00 [1.00–3.00]")
        self.assertEqual(table.cell([50_000.4], 0), "50,000")
        self.assertEqual(table.cell([], 2), "–")

    def test_a_difference_is_taken_of_medians(self):
        memory = {"before": 0, "connected": 0, "end": 0}
        idle = lambda kib: {"void": [], "kind": "idle", "memory": {**memory, "per_connection": kib * 1024}}  # noqa: E731
        figures = table.Results({"ten": {"tidings": [idle(40)]}, "one": {"tidings": [idle(22)]}})
        self.assertEqual(difference("memory", "ten", "one", by=9)(figures), 2.0)
        self.assertIsNone(difference("memory", "ten", "none", by=9)(figures))

    def test_memory_is_told_only_where_it_means_something(self):
        memory = {"before": 0, "connected": 1024, "end": 1024 + 2**20, "per_connection": 1024.0}
        figures = table.Results({"one": {"tidings": [run(1.0, memory=memory)]}, "two": {"tidings": [run(1.0, memory=memory, kind="slow")]}})
        self.assertEqual(figures.values("one", "tidings", "growth"), [])
        self.assertEqual(figures.values("two", "tidings", "growth"), [1.0])


class Page(unittest.TestCase):
    def setUp(self):
        self.runs = {
            "one": {
                "tidings": [run(11.5, per_datagram=4.0), run(12.5, per_datagram=4.0, client_bound=["the load's core was 95 % busy"])],
                "floor-quinn": [run(10.0), run(10.0, rate=40_000.0, reached=False)],
                "nats": [run(8.0, void=["1 deliveries are missing"]), {"failed": "it did not start", "kind": "sparse"}],
            }
        }
        self.figures = table.Results(self.runs)

    def test_the_table_has_a_row_a_peer_with_its_ratio_and_marks(self):
        rows, notes = table.table(SCENARIO, self.figures, {}, {"zenoh": "no package"})
        text = "\n".join(rows)
        self.assertIn("| one | tidings † | 12.00 [11.50–12.50] | 1.20 |", text)
        self.assertIn("| one | floor-quinn ‡ | 10.00 [10.00–10.00] | 1.00 |", text)
        self.assertIn("| one | nats ✗ | – | – | – |", text)
        self.assertIn("| all | **zenoh: MISSING** |", text)
        text = "\n".join(notes)
        self.assertIn("✗ one, nats: void in 1 of 2 runs (1 deliveries are missing)", text)
        self.assertIn("✗ one, nats: failed in 1 of 2 runs (it did not start)", text)
        self.assertIn("† one, tidings: client-bound in 1 of 2 runs (the load's core was 95 % busy)", text)
        self.assertIn("‡ one, floor-quinn: below the intended rate in 1 of 2 runs (40,000 of 50,000 a second)", text)
        self.assertIn("**zenoh is missing**: no package", text)
        self.assertEqual({row.count("|") for row in rows}, {6})

    def test_targets_are_judged(self):
        text = "\n".join(table.targets(SCENARIO, self.figures))
        self.assertIn("| one: ≤ 1.10 × floor-quinn | 1.20× | **not met** |", text)
        self.assertIn("| one: ≥ 5 messages | 4.00 | **not met** |", text)
        self.assertIn("| one: ≤ 0.5 × nats | – | not measured |", text)
        self.runs["one"]["tidings"] = [run(11.0, per_datagram=5.0)]
        text = "\n".join(table.targets(SCENARIO, self.figures))
        self.assertIn("| one: ≤ 1.10 × floor-quinn | 1.10× | met |", text)
        self.assertIn("| one: ≥ 5 messages | 5.00 | met |", text)

    def test_a_section_says_that_the_machine_was_busy(self):
        facts = {"date": "today", "machine": "this", "commit": "abc", "versions": {"tidings": "1"}, "missing": {}, "repeats": 2}
        busy = "\n".join(results.section(SCENARIO, {**facts, "runs": self.runs, "busy": 50.0}))
        calm = "\n".join(results.section(SCENARIO, {**facts, "runs": self.runs, "busy": 1.0}))
        self.assertIn("other work", busy)
        self.assertNotIn("other work", calm)
        self.assertIn("2 runs each, today, commit abc, this; tidings 1.", calm)

    def test_the_picture_is_well_formed_and_shows_every_peer_with_figures(self):
        text = picture.draw(self.figures)
        xml.etree.ElementTree.fromstring(text)
        self.assertIn(">tidings</text>", text)
        self.assertIn("12.00 [11.50–12.50]", text)
        self.assertNotIn(">nats</text>", text)


class Scenarios(unittest.TestCase):
    def test_every_figure_that_a_target_needs_has_its_case(self):
        for scenario in cases.ALL:
            labels = {case.label for case in scenario.cases}
            self.assertEqual(len(labels), len(scenario.cases), scenario.name)

            class Every:
                def median(self, case, peer, metric):
                    assert case in labels, f"{scenario.name} has no case {case}"
                    assert metric in table.METRICS
                    return 1.0

            for target in scenario.targets:
                self.assertIsNotNone(target.figure(Every()), target.text)
            for column in scenario.columns:
                self.assertIn(column, {"ratio", *table.METRICS})

    def test_rates_are_those_of_the_text(self):
        by_label = {case.label: case for scenario in cases.ALL for case in scenario.cases if case.mode == "deliver"}
        for label, rate in [("sparse 1000", 50_000), ("sparse 5000", 50_000), ("burst", 100_000), ("tick", 50_000), ("20k/s", 20_000)]:
            self.assertEqual(by_label[label].rate, rate, label)
        self.assertEqual(Case("x", "latency").at(40_000).rate, 40_000)


class Order(unittest.TestCase):
    """Runs are interleaved, and what fails is kept."""

    def test_peers_take_turns_and_a_failure_is_a_run(self):
        started = []

        class Peer:
            scenarios = {"sparse"}
            load = None

            def __init__(self, name):
                self.name = name

            def start(self, _place, case):
                started.append(f"{case.label} {self.name}")
                raise Missing(f"{self.name} is not here")

        peers = [Peer("a"), Peer("b")]
        runs = measure.measure(SCENARIO, peers, 2, None, None, say=lambda _: None)
        self.assertEqual(started, ["one a", "one b", "two a", "two b"] * 2)
        self.assertEqual(runs["one"]["a"], [{"failed": "a is not here", "kind": "sparse"}] * 2)

    def test_a_step_of_the_peak_ladder_is_lost_by_two_tries_not_by_one(self):
        good = {"reached": True, "void": False, "client_bound": None, "latency": {"p99": 1_000}}
        slow = good | {"latency": {"p99": measure.PEAK_P99_US}}
        tries = iter([good, slow, good, slow, slow])
        case = Case("80 % of own peak", "latency", peak=0.8)
        with unittest.mock.patch.object(measure, "_load", lambda *_: next(tries)):
            peak = measure._peak(None, case, None, None)
        self.assertAlmostEqual(peak, measure.FIRST_RATE * measure.STEP)
        self.assertIsNone(next(tries, None))

    def test_a_peer_that_cannot_be_installed_is_named(self):
        class Broken:
            name = "broken"

            def installed(self):
                return False

            def install(self):
                raise Missing("there is no such package: name another")

        there, missing = measure.install([Broken()], say=lambda _: None)
        self.assertEqual((there, missing), ([], {"broken": "there is no such package: name another"}))


class Smoke(unittest.TestCase):
    def test_tidings_and_the_floor_deliver_everything(self):
        result = subprocess.run([COMPARE / "run", "--quick"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        for peer in ["tidings", "floor-quinn"]:
            self.assertRegex(result.stdout, rf"\| sparse 1000 \| {re.escape(peer)}[^|]* \| \d+\.\d\d \|")

    def test_another_build_takes_part_and_is_what_ours_is_compared_with(self):
        build._cargo(build.ROOT, "--bin", "tidings")
        built = build._target(build.ROOT) / "release" / "tidings"
        result = subprocess.run([COMPARE / "run", "--quick", "--before", built], capture_output=True, text=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("server CPU, × tidings-before", result.stdout)
        self.assertRegex(result.stdout, r"\| sparse 1000 \| tidings-before[^|]* \| \d+\.\d\d \| 1\.00 \|")

    def test_another_build_that_is_not_there_is_said(self):
        result = subprocess.run([COMPARE / "run", "--quick", "--before", "/nowhere/tidings"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 2)
        self.assertIn("/nowhere/tidings is no file", result.stderr)


if __name__ == "__main__":
    unittest.main()
