"""Proof that a recording explains itself: the estimator, fed what was recorded, says the same again.

Every recorded TwinState names the stamps of the inputs behind it. Feeding exactly
those to a fresh estimator must reproduce it bit by bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from exo_common.clock import to_ns
from exo_twin.estimator import Estimator, TwinEstimate
from exo_twin.live.samples import (
    ENVELOPE,
    IMUS,
    INPUTS,
    JOINT_STATES,
    KEYPOINTS,
    envelope_sample,
    imu_sample,
    joint_sample,
    keypoint_sample,
)
from exo_twin.twin import Twin

TWIN_STATE = "/twin/state"
FIELDS = ("position", "velocity", "moment", "position_sd", "moment_sd", "activation", "activation_sd", "force")
# A recorder that stops may hold a state whose inputs were still on their way: at most
# this many states (0.1 s) at the end are left out for that reason.
CUT_OFF_MAX = 10


@dataclasses.dataclass(frozen=True)
class LockstepResult:
    """What the comparison found.

    Attributes
    ----------
    compared : states reproduced and compared.
    recorded : states in the recording, without those that its end cut off from their inputs.
    max_difference : largest absolute difference over all fields, in their units; 0.0
        when identical. NaN when nothing could be compared.
    sentence : the same for a person, or why the comparison ended early.
    """

    compared: int
    recorded: int
    max_difference: float
    sentence: str

    @property
    def identical(self) -> bool:
        """True if every recorded state was reproduced bit by bit."""
        return self.compared == self.recorded > 0 and self.max_difference == 0.0


def rerun(twin: Twin, messages: Iterable[tuple[str, Any]]) -> LockstepResult:
    """Feed the recorded inputs to a fresh estimator and compare with the recorded states.

    Parameters
    ----------
    twin : the twin the recording was made with.
    messages : (topic, decoded message) in any order; other topics are ignored.
    """
    inputs: dict[tuple[str, int], Any] = {}
    states = []
    for topic, message in messages:
        if topic == TWIN_STATE:
            states.append(message)
        elif topic in INPUTS:
            inputs[topic, to_ns(message.header.stamp)] = message
    states.sort(key=lambda state: int(state.sequence))
    if not states:
        return LockstepResult(0, 0, float("nan"), f"the recording holds no {TWIN_STATE}; nothing was compared")
    if not hasattr(states[0], "events"):
        sentence = "the recording is of an earlier version, whose states hold less; record anew to compare"
        return LockstepResult(0, len(states), float("nan"), sentence)
    first = int(states[0].sequence)
    if first != 0:
        return LockstepResult(
            0,
            len(states),
            float("nan"),
            f"the recording begins at sequence {first} of the estimator, whose earlier inputs are unknown; "
            "start the recorder before the estimator",
        )
    whole = _whole(states, inputs)
    estimator, difference = Estimator(twin), 0.0
    for count, state in enumerate(states[:whole]):
        estimate = _step(estimator, inputs, state, count)
        if isinstance(estimate, str):
            sentence = f"{estimate}; {count} states before it were compared"
            return LockstepResult(count, len(states), difference, sentence)
        difference = max(difference, _difference(estimate, state))
    verdict = "identical" if difference == 0.0 else f"different by up to {difference:.3g}"
    sentence = f"{whole} states were reproduced lockstep and are {verdict}"
    if whole < len(states):
        sentence += f"; the inputs of the last {len(states) - whole} were cut off by the end of the recording"
    return LockstepResult(whole, whole, difference, sentence)


def _whole(states: list[Any], inputs: dict[tuple[str, int], Any]) -> int:
    """How many states the recording holds together with their inputs, the end of the recording aside."""
    newest: dict[str, int] = {}
    for topic, ns in inputs:
        newest[topic] = max(ns, newest.get(topic, 0))
    for back, state in enumerate(reversed(states[-CUT_OFF_MAX:])):
        named = zip(state.inputs, state.input_stamps, strict=True)
        if all(topic not in newest or to_ns(stamp) <= newest[topic] for topic, stamp in named):
            return len(states) - back
    return len(states)


def _step(estimator: Estimator, inputs: dict[tuple[str, int], Any], state: Any, sequence: int) -> TwinEstimate | str:
    """The estimate from the inputs `state` names, or what is missing."""
    if int(state.sequence) != sequence:
        return f"state {sequence} is missing from the recording"
    chosen: dict[str, Any] = {}
    for topic, stamp in zip(state.inputs, state.input_stamps, strict=True):
        ns = to_ns(stamp)
        if ns == 0:
            continue
        if (topic, ns) not in inputs:
            return f"a message of {topic} behind state {sequence} is missing from the recording"
        chosen[topic] = inputs[topic, ns]
    return estimator.step(
        to_ns(state.header.stamp),
        joint_sample(chosen[JOINT_STATES]) if JOINT_STATES in chosen else None,
        envelope_sample(chosen[ENVELOPE]) if ENVELOPE in chosen else None,
        {topic: imu_sample(chosen[topic]) for topic in IMUS if topic in chosen},
        keypoint_sample(chosen[KEYPOINTS]) if KEYPOINTS in chosen else None,
    )


def _difference(estimate: TwinEstimate, state: Any) -> float:
    """Largest absolute difference over all numeric fields; infinite if their lengths or the events differ."""
    pairs = [(getattr(estimate, name), np.asarray(getattr(state, name), dtype=float)) for name in FIELDS]
    phase = estimate.phase
    pairs.append(
        (
            np.array([phase.left, phase.right, phase.stride_time]),
            np.array([state.phase_left, state.phase_right, state.stride_time]),
        )
    )
    if list(estimate.events) != list(state.events) or any(ours.shape != theirs.shape for ours, theirs in pairs):
        return float("inf")
    return max(float(np.max(np.abs(ours - theirs))) for ours, theirs in pairs)
