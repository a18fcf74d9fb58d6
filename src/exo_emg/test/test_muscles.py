"""Labels as laboratories write them; a wrong guess would put a signal on the wrong muscle."""

from __future__ import annotations

import pytest

from exo_common.errors import ExoError
from exo_emg.muscles import GROUP_CHANNELS, channel_name, group_of, known, side_of


@pytest.mark.parametrize(
    ("label", "name", "group"),
    [
        ("R_tibialis_anterior", "tibialis_anterior_r", "TA_r"),
        ("Right TA", "tibialis_anterior_r", "TA_r"),
        ("EMG 3: L.Sol", "soleus_l", "SOL_l"),
        ("Voltage.RTA", "tibialis_anterior_r", "TA_r"),
        ("LVL", "vastus_lateralis_l", "VAS_l"),
        ("RF_R", "rectus_femoris_r", "RF_r"),
        ("LRF", "rectus_femoris_l", "RF_l"),
        ("RLG", "gastrocnemius_lateralis_r", "GAS_r"),
        ("vastusMedialisLeft", "vastus_medialis_l", "VAS_l"),
        ("EMG1.RGMED", "gluteus_medius_r", None),
        ("L. BICEPS FEM", "biceps_femoris_l", "HAM_l"),
        ("medial_hamstrings_r", "semitendinosus_r", "HAM_r"),
        ("R hamstrings", "HAM_r", "HAM_r"),
        ("BFSH_l", "BFSH_l", "BFSH_l"),
        ("R_BFL", "biceps_femoris_r", "HAM_r"),
        ("RBFL", "biceps_femoris_r", "HAM_r"),
        ("VML left", "vastus_medialis_l", "VAS_l"),
        ("GASL_r", "gastrocnemius_lateralis_r", "GAS_r"),
        ("Ham L", "HAM_l", "HAM_l"),
        ("TAL", "tibialis_anterior_l", "TA_l"),
    ],
)
def test_labels_become_muscles_with_sides_and_groups(label: str, name: str, group: str | None) -> None:
    assert channel_name(label) == name and group_of(name) == group and known(label)


def test_a_name_stays_what_it_is_and_a_side_may_come_from_outside() -> None:
    for name in (*GROUP_CHANNELS, "gluteus_maximus_l", "peroneus_longus_r"):
        assert channel_name(name) == name
    assert channel_name("soleus", side="l") == "soleus_l" and channel_name("R_soleus", side="l") == "soleus_r"
    assert group_of("soleus") == "SOL" and side_of("soleus_r") == ("soleus", "r") and side_of("TA") == ("TA", None)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("rectos femoris r", "did you mean rectus_femoris"),
        ("EMG_Channel_12", "names no known muscle"),
        ("R GM", "may be gluteus_maximus or gluteus_medius or gastrocnemius_medialis"),
        ("LGM", "may be"),
        ("soleus", "names no side"),
        ("left soleus right", "both sides"),
        ("", "names no known muscle"),
    ],
)
def test_what_is_not_clear_is_refused(label: str, words: str) -> None:
    with pytest.raises(ExoError, match=words):
        channel_name(label)


@pytest.mark.parametrize("label", ["BFL", "VML", "ESL", "GASL", "EMG 4 bfl"])
@pytest.mark.parametrize("side", [None, "l", "r"])
def test_a_last_l_that_may_be_long_lateral_or_left_is_refused(label: str, side: str | None) -> None:
    with pytest.raises(ExoError, match=r"may be of the left leg, or \w+ of either"):
        channel_name(label, side)


@pytest.mark.parametrize(("label", "side"), [("TAL", "r"), ("RTA", "l"), ("LVL", "r")])
def test_a_letter_of_the_other_leg_than_the_files_is_refused(label: str, side: str) -> None:
    with pytest.raises(ExoError, match=f"said to be of side {side}"):
        channel_name(label, side)
    assert channel_name(label, {"l": "r", "r": "l"}[side]) == channel_name(label) and known(label)


def test_an_unknown_muscle_has_no_group() -> None:
    with pytest.raises(ExoError, match="did you mean soleus"):
        group_of("soleuss_r")
