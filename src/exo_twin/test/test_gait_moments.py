"""Moments of the mean stride: of measured strides where there are any; a file without them still loads."""

import numpy as np
import pytest
import yaml

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Storage
from exo_twin.inverse.gait_cycle import StrideMoments, gait_from_motion
from exo_twin.twin import Gait

TIME = np.arange(0.0, 4.2, 0.01)
STRIDES = [
    {"side": side, "start": start, "toe_off": start + 0.6, "end": start + 1.0}
    for side, start in (("r", 0.5), ("l", 1.0), ("r", 1.5), ("l", 2.0), ("r", 2.5))
]
MOTION = Storage(TIME, LEG_COORDINATES, np.tile(np.sin(2 * np.pi * TIME)[:, None], (1, 6)), in_degrees=False)


def moments(measured_from, measured_to):
    """Nm: a wave whose size doubles at 1.5 s, and the time in which the right foot's force was measured."""
    size = np.where(TIME < 1.5, 10.0, 20.0)
    inside = (measured_from <= TIME) & (measured_to >= TIME)
    wave = size * np.sin(2 * np.pi * (TIME - 0.5))
    return StrideMoments(TIME, dict.fromkeys(LEG_COORDINATES, wave), {"l": np.zeros(len(TIME), bool), "r": inside})


def test_measured_strides_stand_alone_and_otherwise_all_count(tmp_path):
    gait = gait_from_motion(MOTION, STRIDES, "test", moments(1.4, 2.6))
    assert gait.moment_curves["hip_flexion_r"].max() == pytest.approx(20.0, rel=0.02)
    np.testing.assert_array_equal(gait.moment_curves_sd["hip_flexion_r"], 0.0)
    without = gait_from_motion(MOTION, STRIDES, "test", moments(9.0, 9.0))
    assert without.moment_curves["hip_flexion_r"].max() == pytest.approx((10.0 + 20.0 + 20.0) / 3.0, rel=0.05)
    assert without.moment_curves_sd["hip_flexion_r"].max() > 3.0
    gait.save(tmp_path / "gait.yaml")
    np.testing.assert_allclose(
        Gait.load(tmp_path / "gait.yaml").moment_curves["knee_angle_l"], gait.moment_curves["knee_angle_l"], atol=1e-6
    )


def test_a_recording_without_moments_has_none_and_half_a_set_is_damage(tmp_path):
    path = tmp_path / "gait.yaml"
    gait_from_motion(MOTION, STRIDES, "test").save(path)
    assert Gait.load(path).moment_curves == {}
    raw = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**raw, "moment_curves": {"hip_flexion_l": [0.0] * 101}}))
    with pytest.raises(ExoError, match="curve 'knee_angle_l' must hold 101 finite numbers"):
        Gait.load(path)
    del raw["moment_curves"], raw["moment_curves_sd"]  # as before twins held them
    path.write_text(yaml.safe_dump(raw))
    assert Gait.load(path).moment_curves == {}
