"""The floor under the feet: y = 0 where it fits, another level, stairs."""

import numpy as np

from exo_twin.inverse.foot_floor import floor_of
from exo_twin.inverse.foot_stances import Stance

TIME = np.arange(0.0, 2.0, 0.01)
STANDS = (Stance("l", 0.0, 0.6, False, True), Stance("r", 0.5, 1.2, True, True), Stance("l", 1.1, 1.99, True, False))


def soles(levels):
    """Heights of both feet: on their level while they stand, 10 cm above it in swing."""
    found = {side: np.full(len(TIME), 0.1 + max(levels)) for side in "lr"}
    for stance, level in zip(STANDS, levels, strict=True):
        found[stance.side][(stance.start <= TIME) & (stance.end >= TIME)] = level
    return found


def test_a_calibrated_floor_is_left_alone():
    floor = floor_of(TIME, soles([0.005, 0.02, -0.01]), STANDS)
    assert not floor.warnings
    assert not any(height.any() for height in floor.height.values())


def test_another_level_is_found_and_told():
    floor = floor_of(TIME, soles([0.30, 0.31, 0.30]), STANDS)
    assert "+0.30 m from y = 0" in floor.warnings[0]
    assert all((height == 0.30).all() for height in floor.height.values())


def test_stairs_have_a_level_for_each_stance():
    floor = floor_of(TIME, soles([0.0, 0.17, 0.34]), STANDS)
    assert "stairs" in floor.warnings[0]
    assert floor.height["l"][10] == 0.0 and floor.height["l"][150] == 0.34
    assert (floor.height["r"] == 0.17).all()
