"""Channels of a device to muscles."""

from __future__ import annotations

import pytest

from exo_common.errors import ExoError
from exo_emg.channel_map import assign


def test_labels_that_name_muscles_need_nothing() -> None:
    assert assign(["R TA", "TA_l"], []) == ([0, 1], ("tibialis_anterior_r", "TA_l"))


def test_muscles_in_the_order_of_the_device() -> None:
    assert assign(["A1", "A2", "A3"], ["TA_r", "-", "R SOL"]) == ([0, 2], ("TA_r", "soleus_r"))


def test_muscles_by_label() -> None:
    assert assign(["A1", "A2", "A3"], ["A3=TA_r", "A1 = SOL_r"]) == ([2, 0], ("TA_r", "SOL_r"))


def test_an_unused_label_is_left_out() -> None:
    assert assign(["A1", "A2"], ["A1=TA_r", "A2 = -"]) == ([0], ("TA_r",))
    assert assign(["A1", "A2"], [" - ", "TA_r"]) == ([1], ("TA_r",))


def test_a_label_that_several_channels_have_tells_none() -> None:
    with pytest.raises(ExoError, match="several channels 'EMG'"):
        assign(["EMG", "EMG"], ["EMG=TA_r"])


@pytest.mark.parametrize(
    ("muscles", "words"),
    [
        (["TA_r"], "names 1 channels but the device has 2 .A1, A2."),
        (["-", "-"], "at least one"),
        (["A1=TA_r", "SOL_r"], "mixes"),
        (["A1=TA_r", "A1=SOL_r"], "'A1' twice"),
        (["A1=-"], "at least one"),
        (["A9=TA_r"], "'A9'.*it has A1, A2"),
        (["TA_r", "elbow_r"], "elbow"),
        ([], "'A1'.*parameter muscles"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(muscles: list[str], words: str) -> None:
    with pytest.raises(ExoError, match=words) as caught:
        assign(["A1", "A2"], muscles)
    assert "\n" not in str(caught.value)
