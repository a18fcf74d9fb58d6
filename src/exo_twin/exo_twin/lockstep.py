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

from exo_twin.estimator import (
    ENVELOPE,
    INPUTS,
    JOINT_STATES,
    Estimator,
    TwinEstimate,
    envelope_sample,
    imu_sample,
    joint_sample,
)
from exo_twin.twin import Twin

TWIN_STATE = "/twin/state"


@dataclasses.dataclass(frozen=True)
class LockstepResult:
    """What the comparison found.

    Attributes
    ----------
    compared : states reproduced and compared.
    recorded : states in the recording.
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
    first = int(states[0].sequence)
    if first != 0:
        return LockstepResult(
            0,
            len(states),
            float("nan"),
            f"the recording begins at sequence {first} of the estimator, whose earlier inputs are unknown; "
            "start the recorder before the estimator",
        )
    estimator, difference = Estimator(twin), 0.0
    for count, state in enumerate(states):
        estimate = _step(estimator, inputs, state, count)
        if isinstance(estimate, str):
            sentence = f"{estimate}; {count} states before it were compared"
            return LockstepResult(count, len(states), difference, sentence)
        difference = max(difference, _difference(estimate, state))
    verdict = "identical" if difference == 0.0 else f"different by up to {difference:.3g}"
    return LockstepResult(
        len(states), len(states), difference, f"{len(states)} states were reproduced lockstep and are {verdict}"
    )


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
    joints = joint_sample(chosen.pop(JOINT_STATES)) if JOINT_STATES in chosen else None
    if joints is None:
        return f"state {sequence} names no joint state"
    envelope = chosen.pop(ENVELOPE, None)
    return estimator.step(
        joints,
        envelope_sample(envelope) if envelope is not None else None,
        {topic: imu_sample(message) for topic, message in chosen.items()},
    )


def _difference(estimate: TwinEstimate, state: Any) -> float:
    """Largest absolute difference over all numeric fields; infinite if their lengths differ."""
    pairs = [
        (getattr(estimate, name), np.asarray(getattr(state, name), dtype=float))
        for name in ("position", "velocity", "moment", "position_sd", "activation", "force")
    ]
    phase = estimate.phase
    pairs.append(
        (
            np.array([phase.left, phase.right, phase.stride_time]),
            np.array([state.phase_left, state.phase_right, state.stride_time]),
        )
    )
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        return float("inf")
    return max(float(np.max(np.abs(ours - theirs))) for ours, theirs in pairs)
