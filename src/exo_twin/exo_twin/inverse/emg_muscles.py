"""Which of a model's muscles an EMG channel speaks for, and the activations that its envelope asks of them.

Muscles are known by what the model families call them: Rajagopal's and LaiUhlrich's (`glmax1_r`, also in pose2sim's
model), gait2392's (`glut_max1_r`) and the lumped ones of OpenSim's planar models (`vasti_r`). Compartments of one
muscle share its channel.

Muscles without an electrode follow those that have one. The heads of one muscle and their direct synergists share an
excitation, as EMG-driven models take them to (Lloyd and Besier 2003, J Biomech 36:765; Sartori et al. 2012, PLoS ONE
7:e52618). Failing these, a muscle follows the mean of its module: in walking few patterns drive all leg muscles
(Clark et al. 2010, J Neurophysiol 103:844). Without followers, tracking EMG makes a muscle that has none take up what
the others were pulled away from, and its activation gets worse (bench muscles, leave one muscle out).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_emg.activation import ActivationConfig
from exo_emg.muscles import MUSCLES, group_of, side_of

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
# Muscle, as exo_emg names it -> what models call it: lower case, without underscores, side and number.
MODEL_NAMES: dict[str, tuple[str, ...]] = {
    "gluteus_maximus": ("glmax", "glutmax", "gmax"),
    "gluteus_medius": ("glmed", "glutmed", "gmed"),
    "tensor_fasciae_latae": ("tfl",),
    "iliopsoas": ("iliacus", "psoas", "iliopsoas"),
    "adductor_longus": ("addlong",),
    "sartorius": ("sart", "sar"),
    "gracilis": ("grac", "gra"),
    "semitendinosus": ("semiten",),
    "semimembranosus": ("semimem",),
    "biceps_femoris": ("bflh", "bifemlh"),
    "biceps_femoris_short_head": ("bfsh", "bifemsh"),
    "rectus_femoris": ("recfem", "rectfem"),
    "vastus_medialis": ("vasmed",),
    "vastus_lateralis": ("vaslat",),
    "gastrocnemius_medialis": ("gasmed", "medgas"),
    "gastrocnemius_lateralis": ("gaslat", "latgas"),
    "soleus": ("soleus",),
    "tibialis_anterior": ("tibant",),
    "tibialis_posterior": ("tibpost",),
    "peroneus_longus": ("perlong",),
    "peroneus_brevis": ("perbrev",),
    "extensor_digitorum_longus": ("edl", "extdig"),
    "extensor_hallucis_longus": ("ehl", "exthal"),
    "flexor_hallucis_longus": ("fhl", "flexhal"),
    "erector_spinae": ("ercspn",),
    "rectus_abdominis": ("rectabd",),
    "external_oblique": ("extobl",),
    "multifidus": ("mult",),
}
# Muscles that models have and exo_emg does not name, because no electrode on the skin reaches them.
DEEP = {"vasint": "VAS"}
# Planar models lump a group in one muscle, under the name of one of its members or one of these.
LUMPED = {"HAM": ("hamstrings", "hamstring"), "VAS": ("vasti",), "GAS": ("gastroc",)}
# Muscle without an electrode -> whose excitation it shares, of those that have one.
NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "vasint": ("vastus_medialis", "vastus_lateralis"),
    "vasmed": ("vastus_lateralis",),
    "vaslat": ("vastus_medialis",),
    "semimem": ("semitendinosus",),
    "semiten": ("semimembranosus",),
    "gasmed": ("gastrocnemius_lateralis",),
    "medgas": ("gastrocnemius_lateralis",),
    "gaslat": ("gastrocnemius_medialis",),
    "latgas": ("gastrocnemius_medialis",),
    "perbrev": ("peroneus_longus",),
    "perlong": ("peroneus_brevis",),
    "glmin": ("gluteus_medius",),
    "glutmin": ("gluteus_medius",),
}
# Muscles that one pattern drives in walking: loading response, push-off, the leg's braking at the end of swing (Clark
# et al. 2010, modules 1, 2 and 4; tibialis anterior, in module 3, shares its pattern with no other whole muscle).
MODULES: tuple[tuple[str, ...], ...] = (
    ("gluteus_maximus", "gluteus_medius", "vastus_medialis", "vastus_lateralis", "rectus_femoris"),
    ("soleus", "gastrocnemius_medialis", "gastrocnemius_lateralis"),
    ("semitendinosus", "semimembranosus", "biceps_femoris"),
)


def muscles_of(channel: str, muscles: Sequence[str]) -> tuple[str, ...]:
    """The model's muscles that a channel measures.

    Parameters
    ----------
    channel : of exo_emg, such as `tibialis_anterior_r`, or a group with its side, such as `TA_r`.
    muscles : of the model, with `_l` or `_r` at the end.

    Returns
    -------
    In the model's order; compartments of one muscle together. In a model that lumps a group in one muscle, that one.

    Raises
    ------
    ExoError : if the channel names no muscle or no side, or the model has nothing for it.
    """
    base, side = side_of(channel)
    if side is None:
        raise ExoError(f"EMG channel '{channel}' names no side; call it {channel}_l or {channel}_r")
    group = group_of(base)  # refuses unknown names
    if base in MUSCLES:
        wanted = MODEL_NAMES[base]
    else:
        wanted = tuple(stem for name, stems in MODEL_NAMES.items() if MUSCLES[name][0] == base for stem in stems)
        wanted += tuple(stem for stem, own in DEEP.items() if own == base)
    own_leg = [name for name in muscles if side_of(name)[1] == side]
    found = [name for name in own_leg if stem(name) in wanted]
    if not found and group is not None:
        lumped = [name for name in own_leg if stem(name) in _group_stems(group)]
        found = lumped if len(lumped) == 1 else []
    if not found:
        raise ExoError(
            f"the model has no muscle for EMG channel '{channel}'; leave the channel out, or use a model with "
            f"{wanted[0]}_{side}"
        )
    return tuple(found)


def stem(muscle: str) -> str:
    """A model's muscle as the tables here have it: `glut_max1_r` -> `glutmax`."""
    return re.sub(r"\d+$", "", side_of(muscle)[0]).replace("_", "").lower()


def _group_stems(group: str) -> set[str]:
    """Everything that models call a muscle of one of the exo's groups."""
    names = {name for muscle, stems in MODEL_NAMES.items() if MUSCLES[muscle][0] == group for name in stems}
    return names | set(LUMPED.get(group, ())) | {name for name, own in DEEP.items() if own == group}


def _leaders(own: str) -> Iterator[tuple[str, ...]]:
    """Muscles that one called `own` may follow, the nearest first."""
    near = NEIGHBOURS.get(own, ())
    yield near
    same = {*near, *(muscle for muscle, stems in MODEL_NAMES.items() if own in stems)}
    yield from (module for module in MODULES if same & set(module))


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
            side = side_of(muscles[j])[1]
            for names in _leaders(stem(muscles[j])):
                led = [channel in {f"{name}_{side}" for name in names} for channel in measured]
                if any(led):
                    share[led, j] = 1.0
                    break
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
    """Envelopes (j, k) behind the lag of activation; a gap stays one, and the lag begins anew after it."""
    felt = np.array(envelope, dtype=float)
    for i in range(1, len(felt)):
        before = np.where(np.isfinite(felt[i - 1]), felt[i - 1], felt[i])
        speed = 0.5 + 1.5 * np.clip(before, 0.0, 1.0)
        constant = np.where(felt[i] > before, LAG.rise_s * speed, LAG.fall_s / speed)
        felt[i] += (before - felt[i]) * np.exp((time[i - 1] - time[i]) / constant)
    return felt


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
