"""What is measured: scenarios, each of them cases that every peer of the table runs, and what is asked of Tidings in it."""

import dataclasses
from dataclasses import dataclass, field
from typing import Callable, Optional


@dataclass(frozen=True)
class Case:
    """One load: what `load` and a floor are told."""

    label: str
    kind: str  # what a peer must be able to do: a member of its `scenarios`
    mode: str = "deliver"
    connections: int = 1000
    channels: int = 1
    interval_us: int = 20_000
    group: int = 1
    size: int = 200
    warmup: float = 1.0
    duration: float = 5.0
    parallel: int = 50
    resume: bool = False
    stalled: int = 0
    peak: Optional[float] = None  # this part of the peer's own peak is the rate

    @property
    def rate(self):
        """Deliveries per second that are intended."""
        return self.connections * self.channels * self.group * 1e6 / self.interval_us

    def at(self, rate):
        """The same at another rate."""
        interval = self.connections * self.channels * self.group * 1e6 / rate
        return dataclasses.replace(self, interval_us=round(interval), peak=None)

    def quick(self):
        """The same, small enough for a test: that it works is seen, not how well."""
        small = {"connections": min(self.connections, 50), "warmup": 0.3, "duration": 1.0, "stalled": min(self.stalled, 5)}
        if self.mode in ("deliver", "publish"):
            small["interval_us"] = max(self.interval_us, 20_000)
        if self.mode == "publish":
            small["channels"] = min(self.channels, 100)
        return dataclasses.replace(self, peak=None, **small)

    def _pace(self):
        values = [self.interval_us, self.group, self.size, self.warmup, self.duration]
        flags = ["--interval-us", "--group", "--size", "--warmup", "--duration"]
        return [str(word) for pair in zip(flags, values) for word in pair]

    def floor_arguments(self):
        """A floor publishes only where deliveries are measured."""
        connections = self.connections if self.mode == "deliver" else 0
        return ["--connections", str(connections), "--channels", str(self.channels), *self._pace()]

    def load_arguments(self):
        flags = ["--mode", self.mode, "--connections", self.connections, "--channels", self.channels]
        flags += ["--parallel", self.parallel, "--stalled", self.stalled]
        return [str(flag) for flag in flags] + self._pace() + ["--resume"] * self.resume


@dataclass(frozen=True)
class Target:
    """What is asked of Tidings: a figure made of medians, and its limit."""

    text: str
    figure: Callable
    limit: float
    at_least: bool = False
    unit: str = "×"

    def is_met(self, value):
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Scenario:
    """A table."""

    name: str
    title: str
    about: str
    cases: list
    columns: list
    targets: list = field(default_factory=list)
    peers: Optional[set] = None  # only these; otherwise all that can


def ratio(metric, case, other, of="tidings", other_case=None):
    """The median of one peer by that of another."""

    def figure(results):
        mine, theirs = results.median(case, of, metric), results.median(other_case or case, other, metric)
        return mine / theirs if mine is not None and theirs else None

    return figure


def value(metric, case, of="tidings"):
    """A median as it is."""
    return lambda results: results.median(case, of, metric)


def difference(metric, case, other_case, of="tidings", other=None, by=1):
    """What one case has more than another."""

    def figure(results):
        more, less = results.median(case, of, metric), results.median(other_case, other or of, metric)
        return (more - less) / by if more is not None and less is not None else None

    return figure


TLS_PEERS = ["nats", "uws", "ws", "mosquitto"]


def below_best_tls(metric, case):
    """Against the best peer that speaks TLS over TCP."""

    def figure(results):
        mine = results.median(case, "tidings", metric)
        others = [results.median(case, peer, metric) for peer in TLS_PEERS]
        others = [other for other in others if other]
        return mine / min(others) if mine is not None and others else None

    return figure


def _cpu(case, other, limit):
    return Target(f"{case}: ≤ {limit:.2f} × {other}", ratio("server_us", case, other), limit)


def _fan_out():
    cases = [
        Case("sparse 1000", "sparse", connections=1000, interval_us=20_000),
        Case("sparse 5000", "sparse", connections=5000, interval_us=100_000),
        # Sixteen ticks.
        Case("burst", "burst", connections=1000, group=32, interval_us=320_000, duration=5.12),
        Case("tick", "tick", connections=500, channels=10, interval_us=100_000),
    ]
    targets = []
    for case in ["sparse 1000", "sparse 5000"]:
        targets += [_cpu(case, "floor-quinn", 1.10), _cpu(case, "zenoh", 0.8), _cpu(case, "nats", 1.0)]
    for case in ["burst", "tick"]:
        targets += [
            _cpu(case, "floor-quinn", 1.15),
            _cpu(case, "nats", 1.0),
            Target(f"{case}: ≥ 5 messages a datagram", value("per_datagram", case), 5, at_least=True, unit=""),
        ]
    half = ratio("server_us", "tick", "tidings", other_case="sparse 1000")
    targets.append(Target("tick: ≤ 0.5 × sparse 1000", half, 0.5))
    about = (
        "One publication, many readers, 200 B. *sparse*: 1 channel, 1000 or 5000 subscribers, 50,000 deliveries a second. *burst*: 32"
        " publications back to back, 1000 subscribers, 100,000 deliveries a second. *tick*: 10 channels on each of 500 connections,"
        " one publication in each at a tick, 50,000 deliveries a second."
    )
    columns = ["server_us", "ratio", "rate", "server_busy", "per_datagram", "p50", "p99"]
    return Scenario("fan-out", "Fan-out", about, cases, columns, targets)


def _latency():
    cases = [
        Case("20k/s", "latency", interval_us=50_000),
        Case("50k/s", "latency", interval_us=20_000),
        Case("80 % of own peak", "latency", peak=0.8),
    ]
    targets = []
    for case in cases:
        name = case.label
        targets.append(Target(f"{name}: p99 ≤ 1.3 × floor-quinn", ratio("p99", name, "floor-quinn"), 1.3))
        targets.append(Target(f"{name}: p99.9 ≤ 2 × floor-quinn", ratio("p999", name, "floor-quinn"), 2))
    best = below_best_tls("p99", "20k/s")
    targets.insert(2, Target("20k/s: p99 below the best TLS peer", best, 1.0))
    about = (
        "1 channel, 1000 subscribers, 200 B, at a fixed rate. Every latency counts from the time at which the publication was meant to"
        " be sent, so a stall shows in all that it delayed; the last of 1000 readers waits for 999 others. The peak is the highest"
        " rate of a ladder, each step 1.3 × the one before, that was reached with p99 below 100 ms, and not held up by the load."
    )
    columns = ["p99", "ratio", "p50", "p999", "max", "server_us", "rate"]
    return Scenario("latency", "Latency at a fixed load", about, cases, columns, targets)


def _memory():
    cases = [
        Case(f"{count // 1000}k × {channels}", "idle", mode="idle", connections=count, channels=channels)
        for count in [5000, 10_000]
        for channels in [1, 10]
    ]
    targets = []
    for case in ["5k × 1", "10k × 1"]:
        targets.append(Target(f"{case}: ≤ 1.15 × floor-quinn", ratio("memory", case, "floor-quinn"), 1.15))
        targets.append(Target(f"{case}: ≤ 24 KiB a connection", value("memory", case), 24, unit=" KiB"))
    for count in ["5k", "10k"]:
        figure = difference("memory", f"{count} × 10", f"{count} × 1", by=9)
        targets.append(Target(f"{count}: ≤ 1 KiB a further subscription", figure, 1, unit=" KiB"))
    about = "Resident memory that a connection adds, 3 s after the last one; *5k × 10*: 5000 connections with 10 subscriptions each."
    return Scenario("memory", "Idle memory", about, cases, ["memory", "ratio"], targets)


def _handshake():
    cases = [
        Case("full", "handshake", mode="handshake", connections=2000, parallel=20),
        # Twenty at a time in both: a resumed one needs a ticket of another that the server still remembers.
        Case("resumed", "handshake", mode="handshake", connections=2000, parallel=20, resume=True),
    ]
    targets = [_cpu(case, "floor-quinn", 1.15) for case in ["full", "resumed"]]
    figure = ratio("server_us", "resumed", "tidings", other_case="full")
    targets.append(Target("resumed: ≤ 0.7 × full", figure, 0.7))
    about = (
        "QUIC handshake (P-256), Hello with a token, Welcome, first subscription, close. The floor reads the same frames and believes"
        " every token. *resumed*: by a ticket of TLS."
    )
    return Scenario("handshake", "Handshakes", about, cases, ["server_us", "ratio", "rate", "server_busy"], targets)


def _growth():
    cases = [
        Case(f"{count:,} subscribers", "subscribers", connections=count, interval_us=count * 50)
        for count in [10, 100, 1000, 5000, 10_000]
    ]
    cases += [
        Case(f"4/s to {count:,}", "subscribers", connections=count, interval_us=250_000, duration=8)
        for count in [100, 1000, 5000, 10_000]
    ]
    cases += [
        Case(f"{count:,} channels", "channels", mode="publish", channels=count, group=32, interval_us=1600, connections=1)
        for count in [10, 1000, 10_000, 100_000]
    ]
    cases.append(Case("churn", "churn", mode="churn", connections=50))
    targets = [
        Target(
            "a delivery: 5,000 ≤ 1.2 × 100 subscribers",
            ratio("server_us", "5,000 subscribers", "tidings", other_case="100 subscribers"),
            1.2,
        ),
        Target(
            "a delivery of 4 publications a second: 5,000 ≤ 1.2 × 100 subscribers",
            ratio("server_us", "4/s to 5,000", "tidings", other_case="4/s to 100"),
            1.2,
        ),
        Target(
            "a publication: 100,000 ≤ 1.2 × 10 channels",
            ratio("server_us", "100,000 channels", "tidings", other_case="10 channels"),
            1.2,
        ),
        Target("≤ 1 KiB a channel, its publication included", value("channel_memory", "100,000 channels"), 1, unit=" KiB"),
    ]
    about = (
        "*subscribers*: 1 channel, 20,000 deliveries a second, so that each connection gets 200 a second where there are 100 and 4 where"
        " there are 5,000; *4/s*: 1 channel, 4 publications a second to every connection, however many there are. *channels*: 20,000 publications a second to so many channels in turn,"
        " which nobody reads; figures are per publication. *churn*: 50 connections subscribe and unsubscribe without pause, each time"
        " to a new channel; figures are per pair, and what remains afterwards is shown."
    )
    columns = ["server_us", "ratio", "rate", "channel_memory", "growth"]
    return Scenario("growth", "Growth", about, cases, columns, targets, {"tidings", "floor-quinn"})


# Of the architecture's table of bounds, for each reader that stalls: unacknowledged bytes, and the batch that its writer holds.
STALLED_MIB = 1 + 64 / 1024


def _slow():
    shape = {"connections": 200, "interval_us": 5_000, "size": 1000, "duration": 8.0}
    stalled = shape["connections"] * 5 // 100
    cases = [Case("all read", "slow", **shape), Case("5 % stop", "slow", stalled=stalled, **shape)]
    room = {"connections": 1000, "interval_us": 40_000, "size": 1000, "duration": 30.0}
    cases += [Case("1,000 read", "slow", **room), Case("1 of 1,000 stops", "slow", stalled=1, **room)]
    limit = stalled * STALLED_MIB
    targets = [
        Target("p99 of the others: ≤ 1.1 × all read", ratio("p99", "5 % stop", "tidings", other_case="all read"), 1.1),
        Target(
            f"memory: ≤ {limit:.1f} MiB more (1 MiB and a batch of 64 KiB for each of 10)",
            difference("growth", "5 % stop", "all read"),
            limit,
            unit=" MiB",
        ),
        Target(
            "p99 of the others: 1 of 1,000 stops ≤ 1.1 × 1,000 read",
            ratio("p99", "1 of 1,000 stops", "tidings", other_case="1,000 read"),
            1.1,
        ),
        Target(
            f"memory: ≤ {STALLED_MIB:.1f} MiB more for the one",
            difference("growth", "1 of 1,000 stops", "1,000 read"),
            STALLED_MIB,
            unit=" MiB",
        ),
    ]
    about = (
        "1 channel, 1000 B. *all read*, *5 % stop*: 200 subscribers, 200 publications a second; 10 of them read no more from the measured time on."
        " *1,000 read*, *1 of 1,000 stops*: 25 publications a second. The log, of 2 MiB at most, grows in all of them."
    )
    return Scenario("slow", "Slow consumers", about, cases, ["p99", "p50", "p999", "growth", "server_us", "rate"], targets)


def _webtransport():
    cases = [
        Case("sparse", "sparse"),
        Case("handshake", "handshake", mode="handshake", connections=2000),
        Case("idle", "idle", mode="idle", connections=5000),
    ]
    other = "tidings-webtransport"
    targets = [
        Target("a delivery: ≤ 1.05 × QUIC", ratio("server_us", "sparse", "tidings", of=other), 1.05),
        Target("a handshake: ≤ 1.5 × QUIC", ratio("server_us", "handshake", "tidings", of=other), 1.5),
        Target("a connection: ≤ 8 KiB more", difference("memory", "idle", "idle", other, "tidings"), 8, unit=" KiB"),
    ]
    about = "The same server and load over both transports: 1000 subscribers at 50,000 deliveries a second; handshakes as above; 5000 idle connections."
    columns = ["server_us", "rate", "memory", "p99"]
    return Scenario("webtransport", "WebTransport against raw QUIC", about, cases, columns, targets, {"tidings", other})


ALL = [_fan_out(), _latency(), _memory(), _handshake(), _growth(), _slow(), _webtransport()]
