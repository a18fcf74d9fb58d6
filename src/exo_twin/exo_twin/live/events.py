"""Heel strikes and foot-offs from the gait phase: each event once, also where the phase trembles around it."""

from __future__ import annotations

from exo_common.frames import SIDES
from exo_twin.phase import WALKING, PhaseEstimate

HEEL_STRIKE, FOOT_OFF = "heel_strike", "foot_off"
# Below this confidence the phase is a guess, and a guess makes no event.
LEAST_CONFIDENCE = 0.2
# A phase that leaps by more than this share of a stride was found anew: what lies between did not happen now.
LEAP = 0.15
# The same event of a leg cannot come again before this share of a stride has passed.
LEAST_BETWEEN = 0.5


class GaitEvents:
    """Watches both legs' phases.

    Parameters
    ----------
    duty_factor : stance as a fraction of the wearer's stride; where it ends the foot leaves the ground.
    """

    def __init__(self, duty_factor: float) -> None:
        self._at = {HEEL_STRIKE: 0.0, FOOT_OFF: duty_factor}
        self._last: dict[str, float] = {}
        # How far the phase has moved on since the event, in strides; an event not seen yet may come at once.
        self._since = {(event, side): 1.0 for event in self._at for side in SIDES}

    def step(self, phase: PhaseEstimate) -> tuple[str, ...]:
        """Events between the step before and this one, such as ("heel_strike_l",)."""
        found = []
        for side, now in zip(SIDES, (phase.left, phase.right), strict=True):
            moved = (now - self._last.get(side, now) + 0.5) % 1.0 - 0.5
            self._last[side] = now
            sure = phase.mode == WALKING and phase.confidence >= LEAST_CONFIDENCE and 0.0 < moved < LEAP
            for event, place in self._at.items():
                self._since[event, side] += moved
                passed = (now - place) % 1.0 < moved
                if sure and passed and self._since[event, side] >= LEAST_BETWEEN:
                    self._since[event, side] = 0.0
                    found.append(f"{event}_{side}")
        return tuple(found)
