"""What models call a muscle: from an EMG channel to a model's muscles, and whom a muscle without an electrode follows.

Muscles are known by what the model families call them: Rajagopal's and LaiUhlrich's (`glmax1_r`, also in pose2sim's
model), gait2392's (`glut_max1_r`) and the lumped ones of OpenSim's planar models (`vasti_r`). Compartments of one
muscle share its channel.

The heads of one muscle and their direct synergists share an excitation, as EMG-driven models take them to (Lloyd and
Besier 2003, J Biomech 36:765; Sartori et al. 2012, PLoS ONE 7:e52618). Failing these, a muscle follows its module: in
walking few patterns drive all leg muscles (Clark et al. 2010, J Neurophysiol 103:844).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from exo_common.errors import ExoError
from exo_emg.muscles import MUSCLES, group_of, side_of

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


def leaders(muscle: str, channels: Sequence[str]) -> list[str]:
    """The channels, of those given, that a muscle of the model follows: the nearest ones that there are."""
    own = stem(muscle)
    near = NEIGHBOURS.get(own, ())
    same = {*near, *(name for name, stems in MODEL_NAMES.items() if own in stems)}
    for names in (near, *(module for module in MODULES if same & set(module))):
        led = [channel for channel in channels if _speaks_for(channel, side_of(muscle)[1]) & set(names)]
        if led:
            return led
    return []


def _speaks_for(channel: str, side: str | None) -> set[str]:
    """The muscles, as exo_emg names them, that a channel of this side measures."""
    base, found = side_of(channel)
    if found != side:
        return set()
    return {base} if base in MUSCLES else {name for name, (group, _) in MUSCLES.items() if group == base}
