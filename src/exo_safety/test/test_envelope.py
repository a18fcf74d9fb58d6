import dataclasses
from pathlib import Path

import pytest
import yaml

from exo_common.errors import ExoError
from exo_safety.envelope import HARD_CAPS, Envelope, SideEnvelope

SIDE = SideEnvelope(-0.35, 1.2, 6.0, 12.0, 200.0, 60.0)
ENVELOPE = Envelope("w1", SIDE, dataclasses.replace(SIDE, torque_max_nm=8.0), "a test")


def test_save_load_returns_the_same(tmp_path: Path) -> None:
    path = tmp_path / "envelope.yaml"
    ENVELOPE.save(path)
    assert Envelope.load(path) == ENVELOPE


@pytest.mark.parametrize("key", [f.name for f in dataclasses.fields(SideEnvelope)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_no_file_exceeds_a_hard_cap(tmp_path: Path, side: str, key: str) -> None:
    path = tmp_path / "envelope.yaml"
    ENVELOPE.save(path)
    raw = yaml.safe_load(path.read_text())
    step = -0.01 if key == "angle_min_rad" else 0.01
    raw[side][key] = getattr(HARD_CAPS, key) + step
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ExoError, match=rf"{side}\.{key} .* hard cap"):
        Envelope.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["left"].pop("power_max_w"), "missing key 'power_max_w'"),
        (lambda raw: raw["left"].update(torqe=1), "unknown key 'torqe'"),
        (lambda raw: raw.update(left=[1, 2]), "side left must hold"),
        (lambda raw: raw.update(schema_version=7), "schema version"),
        (lambda raw: raw["right"].update(torque_max_nm=float("nan")), "finite"),
        (lambda raw: raw["right"].update(torque_max_nm="12"), "finite"),
        (lambda raw: raw["right"].update(torque_max_nm=0), "positive"),
        (lambda raw: raw["right"].update(angle_min_rad=1.3), "not below"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "envelope.yaml"
    ENVELOPE.save(path)
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ExoError, match=words) as caught:
        Envelope.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "- 1\n", "a: [1", "\x00"])
def test_what_is_no_envelope_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "envelope.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ExoError, match="missing or no envelope"):
        Envelope.load(path)
