"""What a recording of the live graph shows: strides with and without help, torque, safety, losses."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.bag import BagReader
from exo_common.clock import to_ns
from exo_common.errors import ExoError

HIP_MUSCLES = ("GLU", "HFL", "HAM", "RF")
# Strides left out after the start and after arming: the estimator locks, the profile fades in.
SETTLING_STRIDES = 3
POINTS = 101
# Below this the device counts as giving no torque, Nm.
NO_TORQUE_NM = 0.05
ARMED = 1


@dataclasses.dataclass(frozen=True)
class Series:
    """One quantity over time: `time` (n,) s since the recording began, `values` (n, k)."""

    time: NDArray[np.float64]
    values: NDArray[np.float64]
    names: tuple[str, ...]

    def column(self, name: str) -> NDArray[np.float64]:
        """One column, (n,)."""
        return self.values[:, self.names.index(name)]

    def at(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """All columns at other times (m,), linearly interpolated, (m, k)."""
        return np.column_stack([np.interp(time, self.time, column) for column in self.values.T])


@dataclasses.dataclass(frozen=True)
class Condition:
    """Strides of one kind, averaged over the left leg's gait cycle.

    Attributes
    ----------
    strides : how many.
    mean, sd : column name -> (101,) over 0..100 % of the cycle.
    hip_effort : (strides,) mean over the stride of the summed squared activations of the hip muscles.
    """

    strides: int
    mean: dict[str, NDArray[np.float64]]
    sd: dict[str, NDArray[np.float64]]
    hip_effort: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Signals:
    """What a recording of the whole graph holds, on one time axis.

    Attributes
    ----------
    truth, estimate : coordinates (rad) and activations of the simulated wearer and of the live estimator.
    torque : `torque_l`, `torque_r` applied by the device, Nm.
    level : the supervisor's `level` and `action`.
    phase_left : gait phase of the simulated wearer's left leg.
    reasons : (time s, sentence) at every change of what the supervisor said.
    messages : topic -> messages in the bag.
    """

    truth: Series
    estimate: Series
    torque: Series
    level: Series
    phase_left: Series
    reasons: list[tuple[float, str]]
    messages: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Recording:
    """Signals, and the strides in them without and with help."""

    signals: Signals
    unassisted: Condition
    assisted: Condition

    @property
    def hip_effort_change_pct(self) -> float:
        """Change of hip muscle effort with help, % of that without."""
        without = self.unassisted.hip_effort.mean()
        return float(100.0 * (self.assisted.hip_effort.mean() - without) / without)


def read_signals(bag: Path) -> Signals:
    """Read a bag of the whole graph.

    Raises
    ------
    ExoError : if a topic is missing.
    """
    topics = ("/virtual/wearer", "/twin/state", "/device/state", "/safety/state")
    with BagReader(bag) as reader:
        counts = {name: topic.count for name, topic in reader.topics.items()}
        collected: dict[str, list[Any]] = {topic: [] for topic in topics}
        for item in reader.messages(topics):
            # A zero stamp is the supervisor's before it has seen a joint state: outside this time axis.
            if to_ns(item.message.header.stamp):
                collected[item.topic].append(item.message)
    for topic, messages in collected.items():
        if len(messages) < 2:
            raise ExoError(f"{bag} holds no {topic}; record the whole graph with record:=<bag>")
    origin = to_ns(collected["/virtual/wearer"][0].header.stamp)

    def series(topic: str, names: Sequence[str], row: Callable[[Any], list[float]]) -> Series:
        messages = collected[topic]
        time = np.array([(to_ns(m.header.stamp) - origin) * 1e-9 for m in messages])
        return Series(time, np.array([row(m) for m in messages], dtype=float), tuple(names))

    def body(topic: str) -> Series:
        first = collected[topic][0]
        return series(topic, (*first.coordinates, *first.muscles), lambda m: [*m.position, *m.activation])

    level = series("/safety/state", ("level", "action"), lambda m: [m.level, m.action])
    reasons: list[tuple[float, str]] = []
    for time, message in zip(level.time, collected["/safety/state"], strict=True):
        if message.sentence and (not reasons or reasons[-1][1] != message.sentence):
            reasons.append((float(time), message.sentence))
    return Signals(
        truth=body("/virtual/wearer"),
        estimate=body("/twin/state"),
        torque=series("/device/state", ("torque_l", "torque_r"), lambda m: list(m.torque_nm)),
        level=level,
        phase_left=series("/virtual/wearer", ("phase_left",), lambda m: [m.phase_left]),
        reasons=reasons,
        messages=counts,
    )


def analyse(bag: Path) -> Recording:
    """Read a bag of the whole graph and compare walking with and without help.

    Raises
    ------
    ExoError : if a topic is missing or there are no complete strides of both kinds.
    """
    signals = read_signals(bag)
    truth, torque = signals.truth, signals.torque
    together = Series(truth.time, np.hstack([truth.values, torque.at(truth.time)]), (*truth.names, *torque.names))
    return Recording(signals, *_conditions(signals.phase_left, together, signals.level))


def _conditions(phase: Series, data: Series, level: Series) -> tuple[Condition, Condition]:
    """Cut the recording into left strides and average those without and with help."""
    wraps = np.flatnonzero(np.diff(phase.values[:, 0]) < -0.5) + 1
    strides = list(itertools.pairwise(wraps))
    armed = np.interp(data.time, level.time, (level.column("level") == ARMED).astype(float))
    without = [s for s in strides if not armed[s[0] : s[1]].any()]
    # After the stop nobody is armed either: the comparison ends where help begins.
    first_help = np.argmax(armed > 0) if armed.any() else len(armed)
    without = [s for s in without if s[1] <= first_help][SETTLING_STRIDES:]
    helped = [s for s in strides if armed[s[0] : s[1]].all()][SETTLING_STRIDES:]
    for what, chosen in (("without", without), ("with", helped)):
        if not chosen:
            raise ExoError(f"no complete settled stride {what} help was recorded; let the run last longer")
    return _average(data, without), _average(data, helped)


def _average(data: Series, strides: list[tuple[Any, Any]]) -> Condition:
    grid = np.linspace(0.0, 1.0, POINTS)
    cycles = []
    for start, end in strides:
        time = data.time[start : end + 1]
        cycles.append(data.at(time[0] + grid * (time[-1] - time[0])))
    stack = np.array(cycles)
    mean, sd = stack.mean(axis=0), stack.std(axis=0)
    hips = [i for i, name in enumerate(data.names) if name.rsplit("_", 1)[0] in HIP_MUSCLES]
    effort = (stack[:, :, hips] ** 2).sum(axis=2).mean(axis=1)
    return Condition(
        len(strides),
        {name: mean[:, i] for i, name in enumerate(data.names)},
        {name: sd[:, i] for i, name in enumerate(data.names)},
        effort,
    )
