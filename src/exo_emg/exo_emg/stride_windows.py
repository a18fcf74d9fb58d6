"""Amplitude and spectrum of each muscle in the part of the stride in which it works.

A stride is cut into phase bins. Over the session a channel's mean power per bin
is followed: bins well above the quiet ones are where the muscle works, and the
quiet bins give the spectrum of what is there without it (electrode, amplifier,
crosstalk, residual activity), which is subtracted. Noise that stays the same
while the muscle's amplitude changes would otherwise look like a spectral shift.
Every window is freed of its own quiet spectrum: one carried on from earlier
windows lags, and the noise of an electrode that settles or dries would then be
taken for a shift of the muscle's. The price is scatter, which the trends see.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_emg.spectrum import dimitrov_index, mean_frequency, median_frequency

PHASE_BINS = 20
# The quietest quarter of the stride stands for no activity.
QUIET_BINS = PHASE_BINS // 4
# A bin is active when its power exceeds the quiet power by this fraction of the peak's excess (a third in amplitude).
ACTIVE_FRACTION = 0.1
# Peak power over quiet power below which no burst stands out; pure noise stays below 1.3.
BURST_RATIO_MIN = 1.5
# A stride, and a window, counts when at least this fraction of its active part was recorded.
COMPLETE_FRACTION = 0.5
# A window needs this many such strides.
STRIDES_MIN = 4
# A burst this many times the window's median amplitude is an artefact of movement.
ARTEFACT_RATIO = 3.0
# With fewer tiles than this between its bursts (5 % of 15 s) a window has no quiet spectrum.
QUIET_TILES_MIN = 8
# How fast the profile is re-learnt after the first windows, per window.
LEARNING = 0.1


@dataclasses.dataclass(frozen=True)
class Activity:
    """What one muscle did, in one stride or in a window of them; NaN where unknown.

    Parameters
    ----------
    strides : how many; 0 where nothing could be judged.
    dimitrov : FInsm5, Hz^-6.
    spectrum : (bins,) of the muscle alone, of any scale.
    """

    strides: int
    arv_v: float
    rms_v: float
    median_hz: float
    mean_hz: float
    dimitrov: float
    spectrum: NDArray[np.float64]


NOTHING = Activity(0, np.nan, np.nan, np.nan, np.nan, np.nan, np.empty(0))


class PhaseWindows:
    """One channel's active phase, learnt as it goes.

    Parameters
    ----------
    frequency_hz : (bins,) of the spectra, Hz.
    """

    def __init__(self, frequency_hz: NDArray[np.float64]) -> None:
        self._frequency = frequency_hz
        self._step = float(frequency_hz[1] - frequency_hz[0])
        self._power = np.full(PHASE_BINS, np.nan)
        self._windows = 0

    def window(
        self,
        phase: NDArray[np.float64],
        spectra: NDArray[np.float64],
        arv: NDArray[np.float64],
        each_stride: bool = False,
    ) -> tuple[Activity, list[tuple[int, Activity]]]:
        """Judge one window.

        Parameters
        ----------
        phase : (tiles,) rising phase in strides: whole numbers are one same moment of the stride.
        spectra : (tiles, bins) V^2/Hz.
        arv : (tiles,) average rectified value, V.

        Returns
        -------
        The window's activity, and (phase of the stride's start, activity) of every stride in it if asked for.
        """
        if np.ptp(phase) < STRIDES_MIN if len(phase) else True:
            return NOTHING, []
        place = np.minimum((PHASE_BINS * np.mod(phase, 1.0)).astype(int), PHASE_BINS - 1)
        power = self._step * spectra.sum(axis=1)
        self._learn(place, power)
        active, resting = self._active(), self._quietest()[place]
        if active is None or np.count_nonzero(resting) < QUIET_TILES_MIN:
            return NOTHING, []
        quiet, quiet_arv = spectra[resting].mean(axis=0), float(arv[resting].mean())
        wanted = active[place]
        stride = np.floor(phase).astype(int)
        names, index = np.unique(stride[wanted], return_inverse=True)
        member = (index == np.arange(len(names))[:, None]).astype(float)
        count = member.sum(axis=1)
        stride_arv = member @ arv[wanted] / count
        # Tiles in the active part of a whole stride, from the tiles of this window.
        expected = active.mean() * len(phase) / float(np.ptp(phase))
        keep = (count >= COMPLETE_FRACTION * expected) & (stride_arv <= ARTEFACT_RATIO * np.median(stride_arv))
        if np.count_nonzero(keep) < STRIDES_MIN:
            return NOTHING, []
        names, member, count, stride_arv = names[keep], member[keep], count[keep], stride_arv[keep]
        own_arv = np.sqrt(np.maximum(stride_arv**2 - quiet_arv**2, 0.0))
        own_power = member @ power[wanted] / count - self._step * quiet.sum()
        weighted = member * self._weight()[place[wanted]]
        clean = weighted @ (spectra[wanted] - quiet)
        total = weighted @ power[wanted]
        # Every stride weighs the same however strong, less where noise dominates it.
        shape = np.mean(clean / total[:, None], axis=0, keepdims=True)
        (whole,) = self._activities(len(names), shape, np.array([np.median(own_arv)]), np.array([np.median(own_power)]))
        strides = self._activities(1, clean, own_arv, own_power) if each_stride else []
        return whole, list(zip(names.tolist(), strides, strict=False))

    def _activities(
        self, strides: int, shapes: NDArray[np.float64], arv: NDArray[np.float64], power: NDArray[np.float64]
    ) -> list[Activity]:
        f = self._frequency
        rms = np.sqrt(np.maximum(power, 0.0))
        median, mean, dimitrov = median_frequency(f, shapes), mean_frequency(f, shapes), dimitrov_index(f, shapes)
        return [
            Activity(strides, float(arv[k]), float(rms[k]), float(median[k]), float(mean[k]), float(dimitrov[k]), shape)
            for k, shape in enumerate(shapes)
        ]

    def _learn(self, place: NDArray[np.int64], power: NDArray[np.float64]) -> None:
        self._windows += 1
        gain = max(1.0 / self._windows, LEARNING)
        count = np.bincount(place, minlength=PHASE_BINS)
        seen = count > 0
        mean = np.bincount(place, power, PHASE_BINS)[seen] / count[seen]
        before = np.where(np.isnan(self._power[seen]), mean, self._power[seen])
        self._power[seen] = (1.0 - gain) * before + gain * mean

    def _weight(self) -> NDArray[np.float64]:
        """(PHASE_BINS,) weight of a tile: the whole burst counts alike, its edges less where noise dominates them.

        A periodogram scatters by its own mean, signal s plus noise n, so s / (s + n)^2 weighs it best.
        """
        own = self._power - np.mean(self._power[self._quietest()])
        return np.nan_to_num(np.maximum(own, 0.0) / self._power**2)

    def _quietest(self) -> NDArray[np.bool_]:
        chosen = np.zeros(PHASE_BINS, dtype=bool)
        chosen[np.argsort(self._power)[:QUIET_BINS]] = True
        return chosen & np.isfinite(self._power)

    def _active(self) -> NDArray[np.bool_] | None:
        quiet = float(np.mean(self._power[self._quietest()]))
        peak = float(np.nanmax(self._power))
        if not peak > BURST_RATIO_MIN * quiet:
            return None
        return np.nan_to_num(self._power, nan=-np.inf) > quiet + ACTIVE_FRACTION * (peak - quiet)
