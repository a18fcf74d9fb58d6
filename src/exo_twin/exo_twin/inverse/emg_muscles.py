"""The activations that EMG envelopes ask of a model's muscles.

Muscles without an electrode follow those that have one (see muscle_names). Without followers, tracking EMG makes a
muscle that has none take up what the others were pulled away from, and its activation gets worse (bench muscles, leave
one muscle out).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_emg.activation import ActivationConfig, activation_after
from exo_twin.inverse.muscle_names import leaders, muscles_of

FloatArray = NDArray[np.float64]

# From the electrical signal to force: 30 to 100 ms in the literature (Cavanagh and Komi 1979, Eur J Appl Physiol
# 42:159), of which 40 ms are the usual choice for walking. One number for all muscles and people, fixed before any
# agreement was looked at.
ELECTROMECHANICAL_DELAY_S = ActivationConfig().electromechanical_delay_s
# The lag of activation behind excitation.
LAG = ActivationConfig()
# An envelope that stays below this fraction of the maximum says that the channel was not connected.
SILENT = 1e-3
# Activation per fraction of a channel's maximum: the peaks of walking lie between a twentieth and the whole of full
# effort.
GAINS = (0.05, 1.0)


@dataclasses.dataclass(frozen=True)
class EmgMap:
    """Channels beside muscles.

    Attributes
    ----------
    channels : k names of exo_emg, those that the model has a muscle for.
    muscles : the model's m.
    share : (k, m) of each channel in a muscle's excitation; columns add up to one, or to zero without a channel.
    measured : channel -> the muscles that it measures itself; those beyond are followers.
    warnings : sentences on channels that the model has no muscle for.
    """

    channels: tuple[str, ...]
    muscles: tuple[str, ...]
    share: FloatArray
    measured: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()

    @staticmethod
    def of(channels: Sequence[str], muscles: Sequence[str], followers: bool = True) -> EmgMap:
        """Map what can be mapped; a channel without a muscle costs a warning.

        Parameters
        ----------
        followers : whether muscles without an electrode follow those with one.

        Raises
        ------
        ExoError : if two channels bear one name.
        """
        if len(set(channels)) < len(channels):
            raise ExoError(f"EMG channels {', '.join(channels)} hold a name twice; rename one of them")
        measured, warnings = dict[str, tuple[str, ...]](), []
        for channel in channels:
            try:
                measured[channel] = muscles_of(channel, muscles)
            except ExoError as error:
                warnings.append(str(error))
        share = np.zeros((len(measured), len(muscles)))
        for k, own in enumerate(measured.values()):
            share[k, [list(muscles).index(name) for name in own]] = 1.0
        alone = [j for j in range(len(muscles)) if followers and not share[:, j].any()]
        for j in alone:
            share[np.isin(list(measured), leaders(muscles[j], list(measured))), j] = 1.0
        share /= np.maximum(share.sum(axis=0), 1.0)
        return EmgMap(tuple(measured), tuple(muscles), share, measured, tuple(warnings))

    def activation(
        self, excitation: FloatArray, gain: FloatArray | float = 1.0, shape: FloatArray | float = 0.0
    ) -> FloatArray:
        """(n, m) activation 0..1, NaN where no channel tells, of (n, k) envelopes that are already late enough.

        Parameters
        ----------
        excitation : fraction of each channel's maximum, NaN where it is not known.
        gain : (k,) what the maximum is of full activation.
        shape : A of each muscle (m,) or of all, see :func:`shaped`.

        Notes
        -----
        A muscle of several channels has the mean of those that are known.
        """
        if excitation.ndim != 2 or excitation.shape[1] != len(self.channels):
            raise ExoError(
                f"EMG of shape {excitation.shape} does not fit {len(self.channels)} channels; give one column for each"
            )
        known = np.isfinite(excitation)
        weight = known.astype(float) @ self.share
        total = np.where(known, np.clip(excitation * gain, 0.0, 1.0), 0.0) @ self.share
        with np.errstate(invalid="ignore", divide="ignore"):
            return shaped(np.where(weight > 0.0, total / weight, np.nan), shape)


def shaped(excitation: FloatArray, shape: FloatArray | float) -> FloatArray:
    """Activation 0..1 of excitation 0..1: (exp(A u) - 1) / (exp(A) - 1), and u itself at A = 0.

    Notes
    -----
    Lloyd and Besier 2003, A from -3 (EMG overstates small forces least) to 0 (a line).
    """
    a = np.asarray(shape, dtype=float)
    bent = np.where(np.abs(a) < 1e-6, 1.0, a)
    return np.where(np.abs(a) < 1e-6, excitation, np.expm1(bent * excitation) / np.expm1(bent))


def excitations(
    time: FloatArray, emg_time: FloatArray, envelope: FloatArray, delay_s: float = ELECTROMECHANICAL_DELAY_S
) -> FloatArray:
    """Envelopes (n, k) as muscles have turned them into activation at the times (n,) of a motion, NaN where not known.

    Parameters
    ----------
    emg_time, envelope : (j,) s on the motion's clock, and (j, k) without delay, NaN where not known.
    delay_s : from the envelope to the onset of force.

    Raises
    ------
    ExoError : if sizes do not match or no time of the motion has EMG.

    Notes
    -----
    After the delay comes the first-order lag of activation, which rises faster than it falls (exo_emg.activation).
    """
    late = time - delay_s
    if len(emg_time) != len(envelope):
        raise ExoError(f"{len(envelope)} EMG samples have {len(emg_time)} times; give one time for each")
    if not len(emg_time) or late[-1] < emg_time[0] or late[0] > emg_time[-1]:
        raise ExoError("EMG and motion share no time; check the clock of the EMG (emg.sync in session.yaml)")
    felt = _lagged(emg_time, envelope)
    return np.column_stack([np.interp(late, emg_time, column, left=np.nan, right=np.nan) for column in felt.T])


def _lagged(time: FloatArray, envelope: FloatArray) -> FloatArray:
    """Envelopes (j, k) behind the lag of activation."""
    felt = np.array(envelope, dtype=float)
    for i in range(1, len(felt)):
        felt[i] = lag_step(felt[i - 1], felt[i], float(time[i] - time[i - 1]))
    return felt


def lag_step(before: FloatArray, excitation: FloatArray, seconds: float) -> FloatArray:
    """The lag of activation over one sample: (k,) from what was felt before and the excitation now.

    NaN where the excitation is not known; after a gap the lag begins anew, at the excitation itself.
    """
    last = np.where(np.isfinite(before), before, excitation)
    return activation_after(last, excitation, seconds, LAG)


def emg_targets(
    time: FloatArray,
    emg: EmgMap,
    emg_time: FloatArray,
    envelope: FloatArray,
    gain: FloatArray | float = 1.0,
    shape: FloatArray | float = 0.0,
    delay_s: float = ELECTROMECHANICAL_DELAY_S,
) -> FloatArray:
    """Activations (n, m) that envelopes ask for, NaN where nothing is measured.

    Parameters
    ----------
    time, emg_time, envelope, delay_s : see :func:`excitations`; one column of envelopes for each channel of the map.
    gain, shape : see :meth:`EmgMap.activation`.

    Raises
    ------
    ExoError : as :func:`excitations`.
    """
    return emg.activation(excitations(time, emg_time, envelope, delay_s), gain, shape)


def pooled_gain(emg: EmgMap, target: FloatArray, activation: FloatArray, strength: FloatArray) -> float:
    """One gain for all channels of a person whose maxima are not those of full effort, such as the peaks of a walk.

    Least squares over all channels together: each channel's own fit would call a muscle weak whenever static
    optimisation uses it at another time than EMG does.

    Parameters
    ----------
    target : (n, m) activations that the envelopes ask for at gain 1, NaN where not measured.
    activation : (n, m) of static optimisation.
    strength : (m,) N, by which a channel's muscles are weighted.

    Returns
    -------
    Activation per fraction of the maximum, inside GAINS; 1 where nothing is measured.
    """
    product = square = 0.0
    for names in emg.measured.values():
        own = [emg.muscles.index(name) for name in names]
        known = np.isfinite(target[:, own[0]])
        asked = target[known, own[0]]
        product += float(asked @ activation[known][:, own] @ strength[own] / strength[own].sum())
        square += float(asked @ asked)
    return float(np.clip(product / square, *GAINS)) if square > 0.0 else 1.0


def without_silent(channels: Sequence[str], envelope: FloatArray) -> tuple[FloatArray, tuple[str, ...]]:
    """Envelopes (j, k) with channels that hold no signal made unknown, and a sentence for each of these."""
    found, warnings = np.array(envelope, dtype=float), []
    for k, channel in enumerate(channels):
        known = found[np.isfinite(found[:, k]), k]
        if len(known) and known.max() > SILENT:
            continue
        what = "is zero throughout" if len(known) else "holds no usable sample"
        warnings.append(f"EMG of {channel} {what}; its muscles are estimated without it: check cable and electrode")
        found[:, k] = np.nan
    return found, tuple(warnings)
