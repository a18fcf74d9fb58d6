"""calibration.yaml: what is written is read again; what is damaged or foreign is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from exo_common.artefact import read_manifest, writing
from exo_common.errors import ExoError
from exo_twin.calibration import CALIBRATION_FILE, SEGMENTS, EmgChannel, TwinCalibration


def example() -> TwinCalibration:
    turns = Rotation.random(3, random_state=4).as_matrix()
    return TwinCalibration(
        "w01",
        {"hip_flexion_l": 0.11, "hip_flexion_r": -0.07},
        {"hip_flexion_l": 0.03, "hip_flexion_r": 0.04},
        dict(zip(SEGMENTS, turns, strict=True)),
        {name: np.array([0.01, 0.02, 0.03]) for name in SEGMENTS},
        {"soleus_r": EmgChannel(("soleus_r",), 1.3, 0.04, -1.5)},
        {"imus": "live"},
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / CALIBRATION_FILE
    example().save(path)
    read = TwinCalibration.load(path, "w01")
    for name in SEGMENTS:
        np.testing.assert_allclose(read.imu_rotation[name], example().imu_rotation[name], atol=1e-5)
        np.testing.assert_allclose(read.imu_rotation_sd[name], [0.01, 0.02, 0.03])
    assert read.encoder_zero == example().encoder_zero and read.encoder_zero_sd == example().encoder_zero_sd
    assert read.emg == example().emg and read.source == example().source
    assert [file.name for file in tmp_path.iterdir()] == [CALIBRATION_FILE]


def test_new_emg_leaves_what_is_worn() -> None:
    new = example().with_emg({"RF_l": EmgChannel(("recfem_l",), 0.8)}, "walks")
    assert list(new.emg) == ["RF_l"] and new.encoder_zero == example().encoder_zero
    assert new.source == {"imus": "live", "emg": "walks"}


def test_a_twin_without_the_file_is_uncalibrated_and_says_how_uncertain(tmp_path: Path) -> None:
    own = TwinCalibration.of_twin(tmp_path, "w01")
    assert all((own.imu_rotation[name] == np.eye(3)).all() for name in SEGMENTS)
    assert min(own.imu_rotation_sd["pelvis"]) > np.deg2rad(10) and own.encoder_zero_sd["hip_flexion_l"] > 0.1


def test_a_calibrated_twin_still_verifies(tmp_path: Path) -> None:
    folder = tmp_path / "twin"
    with writing(folder, "twin", "w01", {}, [], unlisted=(CALIBRATION_FILE,)) as scratch:
        (scratch / "gait.yaml").write_text("walks")
        TwinCalibration.identity("w01").save(scratch / CALIBRATION_FILE)
    example().save(folder / CALIBRATION_FILE)
    assert list(read_manifest(folder, "twin", "w01")["files"]) == ["gait.yaml"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "envelope"}, "no calibration of a twin"),
        ({"schema_version": 9}, "schema version 9"),
        ({"wearer": "somebody"}, "belongs to wearer 'somebody'"),
        ({"imus": {"pelvis": {}}}, "damaged"),
        ({"encoders": None}, "damaged"),
        ({"emg": {"soleus_r": {"muscles": [], "gain": 1.0, "delay_s": 0.0, "shape": 0.0}}}, "needs muscles"),
        ({"emg": {"soleus_r": {"muscles": ["soleus_r"], "gain": -1.0, "delay_s": 0.0, "shape": 0.0}}}, "positive"),
        ({"encoders": {name: {"zero_rad": 0.0, "sd_rad": 0.0} for name in ("hip_flexion_l", "hip_flexion_r")}}, "must"),
        (
            {"encoders": {n: {"zero_rad": 4.0, "sd_rad": 0.1} for n in ("hip_flexion_l", "hip_flexion_r")}},
            "half a turn",
        ),
        (
            {"imus": {n: {"quaternion_xyzw": [0, 0, 0, 0.5], "sd_rad": [0.1, 0.1, 0.1]} for n in SEGMENTS}},
            "no rotation",
        ),
        ({"imus": {n: {"quaternion_xyzw": [0, 0, 0, 1], "sd_rad": [0.1, 0.1, "x"]} for n in SEGMENTS}}, "damaged"),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / CALIBRATION_FILE
    example().save(path)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(ExoError, match=words):
        TwinCalibration.load(path, "w01")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"[1, 2]"])
def test_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / CALIBRATION_FILE
    path.write_bytes(content)
    with pytest.raises(ExoError, match="calibrate again"):
        TwinCalibration.of_twin(tmp_path, "w01")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match="is missing"):
        TwinCalibration.load(tmp_path / CALIBRATION_FILE)


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / CALIBRATION_FILE).mkdir()
    with pytest.raises(ExoError, match="could not be written"):
        TwinCalibration.identity("w01").save(tmp_path / CALIBRATION_FILE)
    assert [path.name for path in tmp_path.iterdir()] == [CALIBRATION_FILE]
