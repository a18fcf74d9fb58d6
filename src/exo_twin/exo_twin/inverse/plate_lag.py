"""How much later the force plates' clock runs than the markers': from the dynamics, with contact times beside it.

The plates must give what the moving body needs: the vertical force, the sum of m(a + g)
over its segments, and the moment about the transverse axis through its centre of mass.
All are low-passed alike, so that no filter shifts the result, and compared only while
every standing foot is on a plate. The lag is the most likely one with unknown noise in
both equations. Alone they disagree: over 24 walks with one set-up the vertical force told
21 ms (median), the moment 8 ms, and which is nearer the truth is not known, for nobody
measured it. Both together were chosen on those walks and on one more, whose plates are
in step; a common error of several ms is possible beyond the stated deviation. Contact
times are a second opinion: thresholds and filters bias them, and only landing and leaving
together say something.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import CUTOFF_HZ, smooth
from exo_twin.inverse.foot_forces import total_wrench
from exo_twin.inverse.foot_stances import Step
from exo_twin.inverse.inverse_dynamics import WholeBody
from exo_twin.inverse.plate_signals import PlateSignal

FloatArray = NDArray[np.float64]

CORRECTABLE_S = 0.1  # a longer lag is no delay of amplifiers and filters: two recordings, or two starts
SEARCH_S = 0.15  # either way, so that a lag beyond what is correctable is seen as such
GRID_S = 0.002  # finer than what can be told; a parabola goes between
MARGIN_S = 0.02  # left out at each end of the window, for the feet's events are as uncertain
SHORTEST_S = 0.35  # of a comparison: one rise and fall of the vertical force
# Assumed, not measured: errors of masses and skin markers that all frames of a trial share.
MODEL_SD_S = 0.003
BEND = 3  # grid steps to either side through which the parabola goes: wider than the noise of a step
TINY = 1e-9  # keeps the logarithm of a perfect agreement finite
CONTACT_SD_S = 0.012  # of contact times, common to all steps: thresholds and filters differ
SURE = 2.0  # standard deviations from zero, beyond which a lag is corrected
LIKE = 0.7  # correlation at the best lag; forces less alike are not of the same motion
CONTRADICTION = 3.0  # standard deviations between the two methods


@dataclasses.dataclass(frozen=True)
class Lag:
    """How much later the plates see the same moment than the markers.

    Attributes
    ----------
    seconds, sd : s; positive where the plates are late.
    method : "dynamics", "contact times" or "none".
    correlation : of the vertical forces at that lag; NaN without dynamics.
    contact_seconds : by the contact times alone; NaN without whole contacts.
    corrected : s, what was taken off the plates' times.
    """

    seconds: float
    sd: float
    method: str
    correlation: float = np.nan
    contact_seconds: float = np.nan
    corrected: float = 0.0

    @property
    def sure(self) -> bool:
        """Whether the lag is certainly not zero."""
        return abs(self.seconds) > SURE * self.sd

    @property
    def contradicted(self) -> bool:
        """Whether the contact times say something else than the dynamics."""
        difference = abs(self.seconds - self.contact_seconds)
        return difference > CONTRADICTION * float(np.hypot(self.sd, CONTACT_SD_S))

    def contradiction(self) -> str:
        """For a report."""
        return (
            f"by the contact times the plates run {1e3 * self.contact_seconds:+.0f} ms behind the markers, by the "
            f"dynamics {1e3 * self.seconds:+.0f} ms; check the feet's markers and the wearer's mass"
        )

    def sentence(self) -> str:
        """For a report."""
        if self.method == "none":
            return "the lag between plates and markers could not be told; it was taken to be zero"
        late = f"the plates run {1e3 * self.seconds:+.0f} ± {1e3 * self.sd:.0f} ms behind the markers ({self.method})"
        return f"{late}; {'corrected' if self.corrected else 'not corrected'}"


def contact_lag(steps: Sequence[Step]) -> float:
    """Mean of the lags of landing and of leaving over all steps, s; NaN if either lacks."""
    kinds = [[step.lags[kind] for step in steps if kind in step.lags] for kind in ("strike", "off")]
    return float(np.mean([np.median(kind) for kind in kinds])) if all(kinds) else np.nan


def dynamics_lag(
    time: FloatArray, needed: WholeBody, signals: Sequence[PlateSignal], compared: NDArray[np.bool_]
) -> Lag | None:
    """The lag at which the plates agree best with the motion.

    Parameters
    ----------
    time : (n,) s, evenly spaced, markers' clock.
    needed : what the motion needs of the world in these frames, low-passed at CUTOFF_HZ without phase.
    signals : all plates.
    compared : (n,) frames in which every standing foot is on a plate.

    Returns
    -------
    None where less than SHORTEST_S can be compared or the two do not resemble each other.
    """
    rate = float((len(time) - 1) / (time[-1] - time[0]))
    inner = _shrunk(compared, round(MARGIN_S * rate))
    if inner.sum() < SHORTEST_S * rate:
        return None
    reference = np.column_stack([needed.force[:, 1], needed.moment_about(needed.centre)[:, 2]])
    lags = np.arange(-SEARCH_S, SEARCH_S + GRID_S / 2.0, GRID_S)
    disagreement, likeness = np.empty(len(lags)), np.empty(len(lags))
    for i, lag in enumerate(lags):
        force, moment = total_wrench(signals, time + lag)
        about_centre = moment - np.cross(needed.centre, force)
        raw = np.column_stack([force[:, 1], about_centre[:, 2]])
        # Where a foot is beside the plates the motion stands in, so that the filter spreads nothing wrong from there.
        difference = smooth(np.where(compared[:, None], raw - reference, 0.0), rate)[inner]
        measured = reference[inner, 0] + difference[:, 0]
        likeness[i] = np.corrcoef(measured, reference[inner, 0])[0, 1]
        disagreement[i] = np.log(1.0 - likeness[i] ** 2 + TINY) + np.log(np.mean(difference[:, 1] ** 2) + TINY)
    best = int(np.argmin(disagreement))
    if best < BEND or best >= len(lags) - BEND or likeness[best] < LIKE:
        return None
    before, here, after = disagreement[[best - BEND, best, best + BEND]]
    curvature = (before - 2.0 * here + after) / (BEND * GRID_S) ** 2
    seconds = float(lags[best] + 0.5 * (before - after) / (curvature * BEND * GRID_S))
    # Twice the log likelihood is the disagreement times the independent samples: a band up to the cut-off holds two
    # per period of it.
    independent = 2.0 * CUTOFF_HZ * inner.sum() / rate
    noise = np.sqrt(2.0 / (independent * curvature))
    return Lag(seconds, float(np.hypot(noise, MODEL_SD_S)), "dynamics", float(likeness[best]))


def _shrunk(mask: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    """The mask without the first and last frames of each of its runs."""
    result = mask.copy()
    for shift in range(1, frames + 1):
        result[shift:] &= mask[:-shift]
        result[:-shift] &= mask[shift:]
    return result
