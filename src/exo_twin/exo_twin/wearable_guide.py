"""Guides a wearer through the calibration of what is worn: stand, then walk, on the clock of the samples themselves.

Knows neither where samples come from nor who reads the prompt.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S, to_ns
from exo_common.frames import HIPS
from exo_twin.calibration import SEGMENTS
from exo_twin.inverse.wearable_recording import ImuSignal, WearableRecording

FloatArray = NDArray[np.float64]

JOINT_STATES = "/joint_states"
IMU_TOPICS = {name: f"/imu/{name}" for name in SEGMENTS}
STAND_S, STEPS = 3.0, 10
# Steps in which a walker gets going do not count in full: a few more are waited for.
STEPS_SEEN = STEPS + 3
# Who moves more within half a second does not stand: rad/s about the mean, rad.
JUDGED_S, QUIET_RAD_S, QUIET_HIP_RAD = 0.5, 0.12, np.deg2rad(2.0)
# The thighs have passed each other when their difference changed sign by so much.
STEP_RAD = np.deg2rad(5.0)
# A walk that pauses for so long is over.
PAUSE_S = 2.0


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What to do now, and how much of it is done, 0..1."""

    task: str
    done: float


class Collected:
    """Samples of encoders and IMUs as they arrive, and the recording that they make."""

    def __init__(self) -> None:
        self._hips: list[tuple[float, float, float]] = []
        self._imus: dict[str, list[tuple[float, ...]]] = {name: [] for name in SEGMENTS}

    def joints(self, message: Any) -> tuple[float, float, float] | None:
        """Take a sensor_msgs/JointState; gives time s and both hips rad, or None if it does not name them."""
        names = list(message.name)
        if any(name not in names or len(message.position) <= names.index(name) for name in HIPS):
            return None
        left, right = (float(message.position[names.index(name)]) for name in HIPS)
        self._hips.append((to_ns(message.header.stamp) / NS_PER_S, left, right))
        return self._hips[-1]

    def imu(self, name: str, message: Any) -> None:
        """Take a sensor_msgs/Imu of a segment."""
        rate, force = message.angular_velocity, message.linear_acceleration
        row = (rate.x, rate.y, rate.z, force.x, force.y, force.z)
        self._imus[name].append((to_ns(message.header.stamp) / NS_PER_S, *map(float, row)))

    def counts(self) -> Mapping[str, int]:
        """Topic -> samples that came."""
        return {JOINT_STATES: len(self._hips)} | {IMU_TOPICS[name]: len(rows) for name, rows in self._imus.items()}

    def forget_before(self, time: float) -> None:
        """Leave out what came earlier, s."""
        self._hips = [row for row in self._hips if row[0] >= time]
        self._imus = {name: [row for row in rows if row[0] >= time] for name, rows in self._imus.items()}

    def restless(self, since: float) -> bool:
        """Whether any IMU turned about since then, or came not at all."""
        for rows in self._imus.values():
            recent = [row[1:4] for row in _tail(rows, since)]
            if not recent or float(np.sqrt(np.var(np.array(recent), axis=0).sum())) > QUIET_RAD_S:
                return True
        return False

    def recording(self) -> WearableRecording:
        """Everything so far."""
        hips = np.array(self._hips).reshape(-1, 3)
        imus = {}
        for name, rows in self._imus.items():
            table = np.array(rows).reshape(-1, 7)
            imus[name] = ImuSignal(table[:, 0], table[:, 1:4], table[:, 4:])
        return WearableRecording(hips[:, 0], hips[:, 1:], imus)


class WearableGuide:
    """Waits for a quiet stance, then counts steps.

    Attributes
    ----------
    done : whether stance and steps were seen.
    """

    def __init__(self) -> None:
        self.done = False
        self.collected = Collected()
        self._recent: collections.deque[tuple[float, float, float]] = collections.deque()
        self._quiet_since: float | None = None
        self._walking = False
        self._middle = self._side = 0.0
        self._steps = 0
        self._last_step = self._now = 0.0

    @property
    def prompt(self) -> Prompt:
        """What to do now."""
        if self._walking:
            return Prompt(f"walk {STEPS} steps straight ahead, as usual", min(1.0, self._steps / STEPS_SEEN))
        stood = 0.0 if self._quiet_since is None else self._now - self._quiet_since
        return Prompt(f"stand upright and still for {STAND_S:.0f} s, feet forward", min(1.0, stood / STAND_S))

    def joints(self, message: Any) -> None:
        """Take a joint state; it drives the guide's clock."""
        row = self.collected.joints(message)
        if row is None:
            return
        self._now = row[0]
        self._recent.append(row)
        while self._recent and self._recent[0][0] < self._now - JUDGED_S:
            self._recent.popleft()
        if self._walking:
            self._count(row)
        else:
            self._wait()

    def _wait(self) -> None:
        seen = np.array(self._recent)
        full = self._now - seen[0, 0] > 0.9 * JUDGED_S
        moved = not full or np.ptp(seen[:, 1:], axis=0).max() > QUIET_HIP_RAD
        if moved or self.collected.restless(self._now - JUDGED_S):
            self._quiet_since = None
            self.collected.forget_before(self._now - JUDGED_S)
        elif self._quiet_since is None:
            self._quiet_since = self._now
        elif self._now - self._quiet_since >= STAND_S:
            self._walking, self._last_step = True, self._now
            self._middle = float(np.mean(seen[:, 1] - seen[:, 2]))

    def _count(self, row: tuple[float, float, float]) -> None:
        apart = row[1] - row[2] - self._middle
        if abs(apart) > STEP_RAD and np.sign(apart) != self._side:
            self._side, self._last_step = float(np.sign(apart)), self._now
            self._steps += 1
        paused = self._steps > 0 and self._now - self._last_step > PAUSE_S
        self.done = self._steps >= STEPS_SEEN or paused


def _tail(rows: list[tuple[float, ...]], since: float) -> list[tuple[float, ...]]:
    """The last of the rows, from a time on."""
    first = len(rows)
    while first and rows[first - 1][0] >= since:
        first -= 1
    return rows[first:]
