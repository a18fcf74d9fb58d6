"""What laboratories write on an EMG channel, read as a muscle and a side.

A channel is named `<muscle>_<side>`: the muscle as SENIAM names it, in snake case,
the side `l` or `r`, such as `tibialis_anterior_r`. A channel may also carry the name
of one of the exo's muscle groups as it is (`TA_r`), as the virtual wearer's do, and a
label that names no more than a group ("hamstrings") becomes that group.
"""

from __future__ import annotations

import difflib
import re

from exo_common.errors import ExoError

# Muscle -> the exo's group that it belongs to (None: it moves no joint of the sagittal twin) and, separated by commas,
# what else people write for it.
MUSCLES: dict[str, tuple[str | None, str]] = {
    "gluteus_maximus": ("GLU", "glut max, glu max, gmax, glmax, gluteus max"),
    "gluteus_medius": (None, "glut med, glu med, gmed, glmed, gluteus med"),
    "tensor_fasciae_latae": (None, "tfl, tensor fascia latae, tensor fasciae latae, tensor fascia lata"),
    "iliopsoas": ("HFL", "ilpso, iliacus, psoas, psoas major"),
    "adductor_longus": (None, "add long, addlong, addl, adductor, adductors"),
    "sartorius": (None, "sar, sart"),
    "gracilis": (None, "gra, grac"),
    "semitendinosus": ("HAM", "st, semiten, semitend, medial hamstring, medial hamstrings, hamstring medial, med ham"),
    "semimembranosus": ("HAM", "semimem, semimemb"),
    "biceps_femoris": (
        "HAM",
        "bf, bflh, bicfem, biceps fem, biceps femoris long head, biceps femoris caput longum, "
        "lateral hamstring, lateral hamstrings, hamstring lateral, lat ham",
    ),
    "biceps_femoris_short_head": ("BFSH", "bfsh, biceps femoris sh, biceps femoris caput breve"),
    "rectus_femoris": ("RF", "rf, recfem, rect fem, rectus fem, rectus"),
    "vastus_medialis": ("VAS", "vm, vmo, vasmed, vast med, vastus med, vastus medius, vastus medialis obliquus"),
    "vastus_lateralis": ("VAS", "vl, vaslat, vast lat, vastus lat"),
    "gastrocnemius_medialis": (
        "GAS",
        "mg, medgas, gasmed, gastroc med, gastrocnemius med, gastrocnemius medial, medial gastrocnemius, "
        "medial gastroc",
    ),
    "gastrocnemius_lateralis": (
        "GAS",
        "lg, latgas, gaslat, gastroc lat, gastrocnemius lat, gastrocnemius lateral, lateral gastrocnemius, "
        "lateral gastroc, gl",
    ),
    "soleus": ("SOL", "sol, so"),
    "tibialis_anterior": ("TA", "ta, tib ant, tibant, tibialis ant, anterior tibialis, tibialis"),
    "tibialis_posterior": (None, "tp, tib post, tibpost, tibialis post, posterior tibialis"),
    "peroneus_longus": (None, "pl, per long, perlong, peroneus, peroneal longus, fibularis longus, fibularis"),
    "peroneus_brevis": (None, "pb, per brev, fibularis brevis"),
    "extensor_digitorum_longus": (None, "edl"),
    "extensor_hallucis_longus": (None, "ehl"),
    "flexor_hallucis_longus": (None, "fhl"),
    "erector_spinae": (None, "es, erector spinae longissimus, longissimus, erector"),
    "rectus_abdominis": (None, "ra, rectus abd, abdominals"),
    "external_oblique": (None, "eo, obliquus externus"),
    "multifidus": (None, "mf"),
}
GROUPS = ("GLU", "HFL", "HAM", "RF", "VAS", "BFSH", "GAS", "SOL", "TA")
# The channels of the virtual wearer: the groups of both legs, left first, as in every message of the twin.
GROUP_CHANNELS = tuple(f"{group}_{side}" for side in ("l", "r") for group in GROUPS)
# Words that name a group and none of its muscles.
COLLECTIVE = {
    "GLU": "gluteus, glut, glu",
    "HFL": "hip flexors, hfl",
    "HAM": "hamstring, hamstrings, hams, ham",
    "VAS": "vastus, vasti, vas",
    "GAS": "gastrocnemius, gastroc, gastrocs, gast, gas",
}
# Written for more than one muscle; guessing would put a signal on the wrong one.
AMBIGUOUS = {"gm": ("gluteus_maximus", "gluteus_medius", "gastrocnemius_medialis")}
# A last l may be the left leg or a part of the name (long head, lateral, longissimus); where the side is named besides,
# it is the latter.
LETTER_L = {
    "bfl": "biceps_femoris",
    "bicfeml": "biceps_femoris",
    "vml": "vastus_medialis",
    "esl": "erector_spinae",
    "gasl": "gastrocnemius_lateralis",
    "gastl": "gastrocnemius_lateralis",
    "gastrocl": "gastrocnemius_lateralis",
    "vasl": "vastus_lateralis",
    "haml": "biceps_femoris",
    "hamsl": "biceps_femoris",
}
SIDES = {word: side for side, words in (("l", "l lt left"), ("r", "r rt right")) for word in words.split()}
# Words around a name that say nothing about the muscle.
DECORATION = {"emg", "semg", "emgs", "raw", "channel", "chan", "ch", "signal", "analog", "voltage", "sensor", "avanti"}
DECORATION |= {"m", "musculus", "muscle", "im", "trigno", "delsys", "noraxon", "ultium", "env", "envelope", "filtered"}


def _squash(words: str) -> str:
    return re.sub(r"[^a-z]", "", words.lower())


ALIASES = {
    _squash(alias): name
    for name, others in (*((name, others) for name, (_, others) in MUSCLES.items()), *COLLECTIVE.items())
    for alias in (name, *others.split(","))
}


def channel_name(label: str, side: str | None = None) -> str:
    """The name of a channel from what a laboratory wrote on it.

    Parameters
    ----------
    label : such as "R_tibialis_anterior", "Right TA", "TibAnt_R", "EMG 3: L.Sol" or "TA_r".
    side : "l" or "r", for labels that name no side; a word such as "left" overrules it, a letter that is glued to
        the muscle and means the other leg is refused.

    Returns
    -------
    `<muscle>_<side>`; a group of the exo with its side (`TA_r`) stays as it is.

    Raises
    ------
    ExoError : if no known muscle, more than one or no side is named.
    """
    group, _, group_side = label.strip().rpartition("_")
    if group in GROUPS and group_side in ("l", "r"):
        return f"{group}_{group_side}"
    words = _words(label)
    named = [SIDES[word] for word in words if word in SIDES]
    if len(set(named)) > 1:
        raise ExoError(f"EMG channel '{label}' names both sides; rename it, for example to tibialis_anterior_r")
    rest = "".join(word for word in words if word not in SIDES)
    muscle, found = _muscle(label, rest, side_named=bool(named))
    if found and side and found != side:
        raise ExoError(
            f"EMG channel '{label}' reads as {muscle}_{found}, but the channels are said to be of side {side}; "
            f"rename it to {muscle}_l or {muscle}_r"
        )
    chosen = named[0] if named else found or side
    if chosen is None:
        raise ExoError(
            f"EMG channel '{label}' names no side; rename it to {muscle}_l or {muscle}_r, or say of which leg it is"
        )
    return f"{muscle}_{chosen}"


def known(label: str) -> bool:
    """Whether a label names one muscle, with or without a side."""
    for side in ("l", "r"):
        try:
            channel_name(label, side)
        except ExoError:
            continue
        return True
    return False


def group_of(name: str) -> str | None:
    """The exo's muscle group of a channel or muscle: `soleus_r` -> `SOL_r`, `soleus` -> `SOL`; None if it has none.

    Raises
    ------
    ExoError : if the muscle is unknown.
    """
    base, side = side_of(name)
    if base in GROUPS:
        group: str | None = base
    elif base in MUSCLES:
        group = MUSCLES[base][0]
    else:
        raise ExoError(f"muscle '{name}' is unknown; did you mean {_nearest(base)}?")
    return f"{group}_{side}" if group and side else group


def side_of(name: str) -> tuple[str, str | None]:
    """A channel's name without its side, and the side: "l", "r" or None."""
    base, _, side = name.rpartition("_")
    return (base, side) if base and side in ("l", "r") else (name, None)


def _words(label: str) -> list[str]:
    """Lower-case words of a label, at every change of case, digit or punctuation, without numbers and decoration."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", re.sub(r"[^A-Za-z]+", " ", label))
    words = apart.lower().split()
    return [word for word in words if word not in DECORATION] or words


def _muscle(label: str, squashed: str, side_named: bool) -> tuple[str, str | None]:
    """The muscle, and the side where its letter is written against the name ("RTA", "TAR")."""
    readings: list[tuple[str, str | None]] = [(squashed, None)]
    if not side_named and len(squashed) > 1:
        readings += [(squashed[1:], SIDES.get(squashed[0], "")), (squashed[:-1], SIDES.get(squashed[-1], ""))]
    for name, side in readings:
        if side == "":
            continue
        if name in LETTER_L:
            if side_named or side:
                return LETTER_L[name], side
            raise ExoError(
                f"EMG channel '{label}' may be of the left leg, or {LETTER_L[name]} of either (its long or lateral "
                "part); rename it to the one that it is, such as biceps_femoris_r"
            )
        if name in AMBIGUOUS:
            raise ExoError(
                f"EMG channel '{label}' may be {' or '.join(AMBIGUOUS[name])}; rename it to the one that it is"
            )
        if name in ALIASES:
            return ALIASES[name], side
    raise ExoError(
        f"EMG channel '{label}' names no known muscle; did you mean {_nearest(squashed)}? Rename it to <muscle>_<side>"
    )


def _nearest(word: str) -> str:
    """The known muscle whose name or abbreviation is most like a word."""
    return ALIASES[difflib.get_close_matches(_squash(word), ALIASES, n=1, cutoff=0.0)[0]]
