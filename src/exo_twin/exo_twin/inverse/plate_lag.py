"""How much later the force plates' clock runs than the markers': from the dynamics, with contact times beside it.

The sum of the vertical forces must be what the moving body needs, the sum of m(a + g)
of its segments. Both are low-passed alike, so that neither filter shifts the result,
and compared only while every standing foot is on a plate. A scale of either does not
matter. Contact times are a second opinion: they are biased by the thresholds and
filters of either side, and only landing and leaving together say something.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import CUTOFF_HZ, smooth
from exo_twin.inverse.foot_stances import Step

FloatArray = NDArray[np.float64]

CORRECTABLE_S = 0.1  # a longer lag is no delay of amplifiers and filters: two recordings, or two starts
SEARCH_S = 0.15  # either way, so that a lag beyond what is correctable is seen as such
GRID_S = 0.002  # finer than what can be told; a parabola goes between
MARGIN_S = 0.02  # left out at each end of the window, for the feet's events are as uncertain
SHORTEST_S = 0.35  # of a comparison: one rise and fall of the vertical force
# Skin, organs and scaled masses bend Σ m(a + g): the spread over trials with one set-up, beside what noise explains.
MODEL_SD_S = 0.003
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
    time: FloatArray,
    needed: FloatArray,
    plate_time: FloatArray,
    vertical: FloatArray,
    compared: NDArray[np.bool_],
    cutoff_hz: float = CUTOFF_HZ,
) -> Lag | None:
    """The lag at which the plates agree best with the motion.

    Parameters
    ----------
    time : (n,) s, evenly spaced, markers' clock.
    needed : (n,) N, vertical force that the motion needs, low-passed at cutoff_hz without phase.
    plate_time, vertical : (m,) s on the plates' clock, and N, sum over the plates.
    compared : (n,) frames in which every standing foot is on a plate.

    Returns
    -------
    None where less than SHORTEST_S can be compared or the two do not resemble each other.
    """
    rate = float((len(time) - 1) / (time[-1] - time[0]))
    inner = _shrunk(compared, round(MARGIN_S * rate))
    if inner.sum() < SHORTEST_S * rate:
        return None
    lags = np.arange(-SEARCH_S, SEARCH_S + GRID_S / 2.0, GRID_S)
    reference = needed[inner] - needed[inner].mean()
    scores = np.empty(len(lags))
    for i, lag in enumerate(lags):
        measured = _measured(time + lag, needed, plate_time, vertical, compared, rate, cutoff_hz)[inner]
        centred = measured - measured.mean()
        scores[i] = centred @ reference / np.sqrt(max((centred @ centred) * (reference @ reference), 1e-12))
    best = int(np.argmax(scores))
    if best in (0, len(lags) - 1) or scores[best] < LIKE:
        return None
    before, here, after = scores[best - 1 : best + 2]
    seconds = float(lags[best] + 0.5 * GRID_S * (before - after) / (before - 2.0 * here + after))
    measured = _measured(time + seconds, needed, plate_time, vertical, compared, rate, cutoff_hz)
    return Lag(seconds, _spread(measured, needed, inner, rate, cutoff_hz), "dynamics", float(here))


def _measured(
    at: FloatArray,
    needed: FloatArray,
    plate_time: FloatArray,
    vertical: FloatArray,
    compared: NDArray[np.bool_],
    rate: float,
    cutoff_hz: float,
) -> FloatArray:
    """The plates' force at some times, low-passed; where it is not the whole force the motion's stands in.

    So the filter spreads nothing into the comparison that does not belong there.
    """
    raw = np.interp(at, plate_time, vertical)
    difference = np.where(compared, raw - needed, 0.0)
    return np.asarray(needed + smooth(difference[:, None], rate, cutoff_hz)[:, 0])


def _spread(measured: FloatArray, needed: FloatArray, inner: NDArray[np.bool_], rate: float, cutoff_hz: float) -> float:
    """Standard deviation of the lag, s: of a fit of scale and shift with as many samples as the band holds."""
    slope = np.gradient(measured, 1.0 / rate)[inner]
    columns = np.column_stack([np.ones(inner.sum()), measured[inner], slope])
    fit, *_ = np.linalg.lstsq(columns, needed[inner], rcond=None)
    left = needed[inner] - columns @ fit
    # A band up to cutoff_hz holds two independent samples per period of it.
    independent = max(2.0 * cutoff_hz * inner.sum() / rate - columns.shape[1], 1.0)
    steep = slope - columns[:, :2] @ np.linalg.lstsq(columns[:, :2], slope, rcond=None)[0]
    noise = float(np.sqrt(np.mean(left**2) / (independent * np.mean(steep**2))))
    return float(np.hypot(noise, MODEL_SD_S))


def _shrunk(mask: NDArray[np.bool_], frames: int) -> NDArray[np.bool_]:
    """The mask without the first and last frames of each of its runs."""
    result = mask.copy()
    for shift in range(1, frames + 1):
        result[shift:] &= mask[:-shift]
        result[:-shift] &= mask[shift:]
    return result
