"""Replay: a recording's inputs go through the estimator again, and what comes out is compared.

Lockstep, the estimator's core is fed the very messages it used and must give the
same numbers. Over DDS timing is real, so a message may be used one tick later than
it was: agreement within TOLERANCE is asked for.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
from ament_index_python.packages import get_package_share_directory
from numpy.typing import NDArray

from exo_bringup.launch_runner import LaunchRunner
from exo_common.bag import BagReader
from exo_common.clock import to_ns
from exo_common.errors import ExoError

STATE_TOPIC, JOINT_TOPIC = "/twin/state", "/joint_states"
# What the estimator reads; everything else in a recording is made again or not needed.
INPUT_TOPICS = (JOINT_TOPIC, "/imu/pelvis", "/imu/thigh_l", "/imu/thigh_r", "/emg/envelope", "/capture/keypoints")
# RMS. The joint states are the same; an IMU or EMG message may be used one tick (10 ms) earlier or later than it was.
TOLERANCE_RAD = 0.01
# Share of the recorded states that must come back; the first may be lost while the nodes find each other.
MATCHED_MIN = 0.95
# Start of nodes, discovery and the recorder's drain, s.
OVERHEAD_S = 40.0
# Speeds the player offers.
RATES = (0.05, 20.0)
# Domains for replays only; Fast DDS knows domains up to 232.
FIRST_REPLAY_DOMAIN, REPLAY_DOMAINS = 200, 30


@dataclasses.dataclass(frozen=True)
class States:
    """A run of /twin/state: stamps (n,) ns, coordinates, positions (n, k) rad."""

    stamps: NDArray[np.int64]
    coordinates: tuple[str, ...]
    positions: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Replayed against recorded.

    Attributes
    ----------
    matched : share of the recorded states that came back with the same stamp.
    worst, p99, rms : coordinate -> largest, 99th percentile and root mean square of the difference, rad.
    tolerance : rad, for the root mean square.
    """

    matched: float
    worst: dict[str, float]
    p99: dict[str, float]
    rms: dict[str, float]
    tolerance: float = TOLERANCE_RAD

    @property
    def good(self) -> bool:
        """Enough states came back, and their RMS difference is within the tolerance in every coordinate."""
        return self.matched >= MATCHED_MIN and all(value <= self.tolerance for value in self.rms.values())

    def table(self) -> str:
        """For a person."""
        lines = [f"{'coordinate':<18}{'RMS rad':>10}{'99 % rad':>10}{'max rad':>10}"]
        lines += [f"{n:<18}{self.rms[n]:>10.5f}{self.p99[n]:>10.5f}{self.worst[n]:>10.5f}" for n in self.rms]
        return "\n".join(lines)


def skipped_live(bag: BagReader) -> set[int]:
    """Joint states the recorded estimator never used, by the time they were received, ns.

    Like every control loop it takes the newest state only, so a busy machine skips some;
    a replay that used them would be another run. Empty where no estimates were recorded.
    """
    received: dict[int, int] = {}
    used = set()
    for item in bag.messages([JOINT_TOPIC, STATE_TOPIC]):
        stamp = to_ns(item.message.header.stamp)
        if item.topic == STATE_TOPIC:
            used.add(stamp)
        else:
            received[item.received_ns] = stamp
    return {at for at, stamp in received.items() if stamp not in used} if used else set()


def read_states(bag: Path) -> States:
    """The estimates in a bag.

    Raises
    ------
    ExoError : if there are none.
    """
    with BagReader(bag) as reader:
        messages = [m.message for m in reader.messages([STATE_TOPIC])]
    if not messages:
        raise ExoError(f"{bag} holds no {STATE_TOPIC}; record the whole graph with record:=<bag>")
    stamps = np.array([to_ns(m.header.stamp) for m in messages], dtype=np.int64)
    return States(stamps, tuple(messages[0].coordinates), np.array([np.asarray(m.position) for m in messages]))


def compare(recorded: States, replayed: States) -> Comparison:
    """Compare two runs of states by their stamps.

    Raises
    ------
    ExoError : if they describe other coordinates or share no stamp.
    """
    if recorded.coordinates != replayed.coordinates:
        raise ExoError("the replay estimates other coordinates than the recording; use the twin it was made with")
    stamps, first, second = np.intersect1d(recorded.stamps, replayed.stamps, return_indices=True)
    if stamps.size == 0:
        raise ExoError("the replay gave no state with a stamp of the recording; look at the estimator's messages")
    off = np.abs(recorded.positions[first] - replayed.positions[second])

    def by_name(values: NDArray[np.float64]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(recorded.coordinates, values, strict=True)}

    return Comparison(
        stamps.size / np.unique(recorded.stamps).size,
        by_name(off.max(axis=0)),
        by_name(np.percentile(off, 99.0, axis=0)),
        by_name(np.sqrt(np.mean(off**2, axis=0))),
    )


def replay_domain() -> int:
    """A DDS domain for replays only, another one for every process."""
    return FIRST_REPLAY_DOMAIN + os.getpid() % REPLAY_DOMAINS


def replay_over_dds(bag: Path, twin: Path, rate: float = 1.0, domain: int | None = None) -> Comparison:
    """Replay a bag through the live estimator and compare its states with the recorded ones.

    The replay has a DDS domain of its own, so that it never speaks to a worn exo.

    Raises
    ------
    ExoError : if the bag lacks the topics, or a node of the replay fails.
    """
    recorded = read_states(bag)
    seconds = float(recorded.stamps[-1] - recorded.stamps[0]) / 1e9 / rate
    path = Path(get_package_share_directory("exo_bringup"), "launch", "replay.launch.xml")
    with tempfile.TemporaryDirectory(prefix="exo-replay-") as scratch:
        output = Path(scratch, "replayed")
        arguments = {"bag": str(bag.resolve()), "twin": str(twin.resolve()), "rate": str(rate), "record": str(output)}
        environment = {"ROS_DOMAIN_ID": str(replay_domain() if domain is None else domain)}
        log = Path(scratch, "nodes.log")
        with LaunchRunner(path, arguments, environment, log) as runner:
            finished = runner.wait(seconds + OVERHEAD_S)
        if runner.deaths or not finished:
            words = log.read_text(encoding="utf-8").strip().splitlines() if log.is_file() else []
            cause = runner.deaths[0] if runner.deaths else "it did not come to an end"
            raise ExoError(f"the replay of {bag} failed: {cause}; {words[-1] if words else 'the nodes said nothing'}")
        return compare(recorded, read_states(output))


def replay_and_compare(bag: Path, twin: Path | None, rate: float = 1.0) -> tuple[str, bool]:
    """Replay lockstep and over DDS; the verdict for a person, and whether both agree with the recording.

    Parameters
    ----------
    bag : the recording.
    twin : the twin it was made with; by default the one of the demo that made the bag.
    rate : speed of the replay over DDS.

    Raises
    ------
    ExoError : if bag or twin cannot be read, or a node of the replay fails.
    """
    from exo_twin.lockstep import rerun
    from exo_twin.twin import Twin

    if not RATES[0] <= rate <= RATES[1]:
        raise ExoError(f"--rate {rate:g} is outside [{RATES[0]:g}, {RATES[1]:g}]; choose a speed inside")
    folder = twin or bag.resolve().parent / "session" / "twin"
    if twin is None and not folder.is_dir():
        raise ExoError(f"no twin lies beside {bag}; give the one it was recorded with: --twin <folder>")
    with BagReader(bag) as reader:
        damage = [f"note: {reader.damage}"] if reader.damage else []
        lockstep = rerun(Twin.load(folder), ((m.topic, m.message) for m in reader.messages()))
    over_dds = replay_over_dds(bag, folder, rate)
    verdict = "within" if max(over_dds.rms.values()) <= over_dds.tolerance else "NOT within"
    lines = [
        *damage,
        f"lockstep: {lockstep.sentence}",
        f"over DDS at {rate:g}x: {over_dds.matched:.1%} of the states came back, {verdict} {over_dds.tolerance:g} rad "
        "RMS of the recording in every coordinate",
        over_dds.table(),
    ]
    return "\n".join(lines), lockstep.identical and over_dds.good
