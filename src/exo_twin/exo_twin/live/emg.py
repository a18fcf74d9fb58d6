"""EMG envelopes as they arrive, to the activations that they ask of the model's muscles."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_twin.calibration import EmgChannel, TwinCalibration
from exo_twin.inverse.emg_muscles import ELECTROMECHANICAL_DELAY_S, SILENT, EmgMap, lag_step
from exo_twin.live.samples import SIDE_INPUT_MAX_AGE_S, EnvelopeSample, fresh

FloatArray = NDArray[np.float64]

# The causal envelope is late by as much already (exo_emg, 6 Hz); only what is left of a delay is waited for.
ENVELOPE_DELAY_S = 0.040
LONGEST_DELAY_S = 0.2
# One standard deviation of what a muscle's activation differs by from that of the muscle whose EMG it follows.
FOLLOWER_SD = 0.15
# An envelope so many times its calibrated maximum (with the wearer's gain) is in another unit, or an artefact.
IMPOSSIBLE = 3.0
# A channel that never rose above `SILENT` for so long is not connected: a muscle at rest shows more noise than that.
UNCONNECTED_S = 3.0


class LiveEmg:
    """Follows the envelopes.

    Parameters
    ----------
    muscles : of the model, in its order.
    calibration : gains, delays and shapes; a channel it does not know is taken as it is.
    """

    def __init__(self, muscles: tuple[str, ...], calibration: TwinCalibration) -> None:
        self._muscles, self._calibrated = muscles, calibration.emg
        self._channels: tuple[str, ...] = ()
        # Stamp ns, and the envelopes behind the lag of activation.
        self._line: deque[tuple[int, FloatArray]] = deque()
        self._alive: dict[str, int] = {}
        self._unmapped: tuple[str, ...] = ()
        self._own = np.zeros((0, len(muscles)), dtype=bool)
        self._map_channels(())
        self.complaints: tuple[str, ...] = ()

    def step(self, now_ns: int, sample: EnvelopeSample | None) -> tuple[FloatArray, FloatArray]:
        """(m,) activation 0..1 that EMG asks for now, NaN where nothing tells; (m,) how much more uncertain it is for
        being another muscle's."""
        self.complaints = ()
        nothing = np.full(len(self._muscles), np.nan), np.zeros(len(self._muscles))
        if sample is None:
            return nothing
        if not fresh(sample, now_ns):
            self.complaints = (f"EMG is silent or its stamps are off by over {SIDE_INPUT_MAX_AGE_S} s",)
            return nothing
        names = tuple(sorted({*sample.valid, *sample.invalid}))
        if names != self._channels:
            self._map_channels(names)
        values, sound = self._read(sample)
        self._take(sample, values)
        bad = [f"EMG of {name} is marked invalid and not used" for name in sample.invalid if name in self._alive]
        if len(bad) == len(self._alive) > 1:
            bad = ["all EMG channels are marked invalid and not used"]
        dead = [name for name in self._map.channels if sample.stamp_ns - self._alive[name] > UNCONNECTED_S * NS_PER_S]
        if dead:
            bad.append(f"EMG of {', '.join(dead)} is zero; its muscles are estimated without it")
        odd = [name for name, good in zip(self._map.channels, sound, strict=True) if not good]
        if odd:
            bad.append(
                f"EMG of {', '.join(odd)} tells no numbers, or over {IMPOSSIBLE:g} times its maximum, and is not used; "
                "calibrate the EMG again"
            )
        self.complaints = (*self._unmapped, *bad)
        drive = self._delayed(now_ns)
        drive[[name in dead for name in self._map.channels]] = np.nan
        asked = self._map.activation(drive[None], self._gain, self._shape)[0]
        own = self._own[np.isfinite(drive)].any(axis=0)
        return asked, np.where(np.isfinite(asked) & ~own, FOLLOWER_SD, 0.0)

    def _map_channels(self, names: tuple[str, ...]) -> None:
        """Which muscles the channels drive, and how."""
        self._channels = names
        own = self._mapped(names)
        self._map, self._unmapped = own, own.warnings
        calibrated = [self._calibrated.get(name, EmgChannel(own.measured[name])) for name in own.channels]
        self._gain = np.array([one.gain for one in calibrated])
        self._own = np.array([np.isin(self._muscles, own.measured[name]) for name in own.channels], dtype=bool)
        self._own = self._own.reshape(-1, len(self._muscles))
        shapes = np.array([one.shape for one in calibrated])
        self._shape = shapes @ own.share if len(shapes) else np.zeros(len(self._muscles))
        delays = [one.delay_s if one.delay_s else ELECTROMECHANICAL_DELAY_S for one in calibrated]
        self._wait_ns = [int(NS_PER_S * min(LONGEST_DELAY_S, max(0.0, d - ENVELOPE_DELAY_S))) for d in delays]
        self._line.clear()
        self._alive = {}

    def _mapped(self, names: tuple[str, ...]) -> EmgMap:
        """By the channels' names; where the calibration names other muscles, by these."""
        own = EmgMap.of(names, self._muscles)
        told = {name: one.muscles for name, one in self._calibrated.items() if name in names}
        told = {name: muscles for name, muscles in told.items() if muscles != own.measured.get(name)}
        if not told:
            return own
        channels = tuple(name for name in names if name in own.channels or name in told)
        drives = np.array(
            [
                np.isin(self._muscles, told[name]) if name in told else own.share[own.channels.index(name)] > 0.0
                for name in channels
            ],
            dtype=float,
        )
        share = drives / np.maximum(drives.sum(axis=0), 1.0)
        warnings = [words for words in own.warnings if not any(f"'{name}'" in words for name in told)]
        warnings += [
            f"calibration.yaml gives EMG channel '{name}' to {', '.join(muscles)}, which the model lacks; "
            "name a muscle of the model, or leave the channel out"
            for name, muscles in told.items()
            if not np.isin(muscles, self._muscles).any()
        ]
        return EmgMap(channels, self._muscles, share, {**own.measured, **told}, tuple(warnings))

    def _read(self, sample: EnvelopeSample) -> tuple[FloatArray, list[bool]]:
        """(k,) envelopes, NaN where they tell nothing; whether what every channel tells is possible."""
        names = self._map.channels
        told = np.array([sample.valid.get(name, math.nan) for name in names])
        possible = np.isfinite(told) & (told * self._gain <= IMPOSSIBLE)
        sound = [bool(good) or name not in sample.valid for name, good in zip(names, possible, strict=True)]
        return np.where(possible, told, np.nan), sound

    def _take(self, sample: EnvelopeSample, values: FloatArray) -> None:
        line, names = self._line, self._map.channels
        if line and sample.stamp_ns < line[-1][0]:
            line.clear()
            self._alive = {}
        if not line:
            line.append((sample.stamp_ns, values))
        elif sample.stamp_ns > line[-1][0]:
            felt = lag_step(line[-1][1], values, (sample.stamp_ns - line[-1][0]) / NS_PER_S)
            line.append((sample.stamp_ns, felt))
        for name, value in zip(names, values.tolist(), strict=True):
            if not value <= SILENT or name not in self._alive:
                self._alive[name] = sample.stamp_ns
        while sample.stamp_ns - line[0][0] > (LONGEST_DELAY_S + SIDE_INPUT_MAX_AGE_S) * NS_PER_S:
            line.popleft()

    def _delayed(self, now_ns: int) -> FloatArray:
        """(k,) of every channel the newest that is old enough, behind the lag of activation; NaN until there is one."""
        newest = self._line[-1][1].copy()
        for k, wait_ns in enumerate(self._wait_ns):
            if wait_ns:
                old = (values[k] for stamp, values in reversed(self._line) if stamp <= now_ns - wait_ns)
                newest[k] = next(old, math.nan)
        return newest
