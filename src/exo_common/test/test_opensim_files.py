"""Tables go out and come back; damaged ones are refused with a sentence."""

from pathlib import Path

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, Storage, read_storage, read_trc, write_storage, write_trc

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


@pytest.fixture
def markers() -> Markers:
    position = np.random.default_rng(0).normal(size=(5, 3, 3))
    position[2, 1] = np.nan
    return Markers(np.arange(5) / 100, ("RHip", "LHip", "Neck"), position)


def test_trc_round_trip_keeps_gaps(tmp_path: Path, markers: Markers) -> None:
    write_trc(tmp_path / "m.trc", markers)
    back = read_trc(tmp_path / "m.trc")
    assert back.names == markers.names
    assert back.rate_hz == pytest.approx(100.0)
    np.testing.assert_allclose(back.position, markers.position, atol=1e-6)


def test_trc_units_become_metres(tmp_path: Path, markers: Markers) -> None:
    write_trc(tmp_path / "m.trc", markers)
    text = (tmp_path / "m.trc").read_text()
    (tmp_path / "mm.trc").write_text(text.replace("\tm\t", "\tmm\t"))
    np.testing.assert_allclose(read_trc(tmp_path / "mm.trc").position, read_trc(tmp_path / "m.trc").position / 1000)


@pytest.mark.parametrize(("keep", "cause"), [(8, "truncated: 2 of 5"), (2, "header is damaged")])
def test_truncated_trc(tmp_path: Path, markers: Markers, keep: int, cause: str) -> None:
    write_trc(tmp_path / "m.trc", markers)
    lines = (tmp_path / "m.trc").read_text().splitlines()[:keep]
    (tmp_path / "m.trc").write_text("\n".join(lines))
    with pytest.raises(ExoError, match=cause):
        read_trc(tmp_path / "m.trc")


def test_unknown_units_and_missing_file(tmp_path: Path, markers: Markers) -> None:
    write_trc(tmp_path / "m.trc", markers)
    (tmp_path / "m.trc").write_text((tmp_path / "m.trc").read_text().replace("\tm\t", "\tinch\t"))
    with pytest.raises(ExoError, match="units 'inch'"):
        read_trc(tmp_path / "m.trc")
    with pytest.raises(ExoError, match="cannot be read"):
        read_trc(tmp_path / "none.trc")


def test_storage_round_trip_and_damage(tmp_path: Path) -> None:
    table = Storage(np.arange(4) / 10, ("hip_flexion_l", "knee_angle_l"), np.arange(8.0).reshape(4, 2), True)
    write_storage(tmp_path / "c.mot", table)
    back = read_storage(tmp_path / "c.mot")
    assert back.in_degrees
    np.testing.assert_array_equal(back.column("knee_angle_l"), table.values[:, 1])
    with pytest.raises(ExoError, match="'hip_flexion_r' is missing"):
        back.column("hip_flexion_r")
    (tmp_path / "c.mot").write_text("time\thip\n0\t1\n")
    with pytest.raises(ExoError, match="not a complete MOT or STO"):
        read_storage(tmp_path / "c.mot")


def test_files_written_by_opensim() -> None:
    folder = DATA / "walking_3d"
    if not folder.is_dir():
        pytest.skip("the reference recordings (../shared/data) are not on this machine")
    markers = read_trc(folder / "markers_walk.trc")
    assert len(markers.names) == 41
    assert 0.5 < np.nanmax(markers.position[:, :, 1]) < 2.2
    coordinates = read_storage(folder / "coordinates.sto")
    assert np.ptp(coordinates.column(next(c for c in coordinates.columns if "hip_flexion_r" in c))) > 0.4
