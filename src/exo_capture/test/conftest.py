"""A walker whose every angle is known, seen by a made-up camera; and the places of real recordings."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_capture.landmarks import HIPS, NOSE
from exo_capture.weights import model_path
from exo_common.errors import ExoError

# Tests are imported one by one (importlib mode); this lets them share marker_person.
sys.path.insert(0, str(Path(__file__).parent))

RATE_HZ, STATURE, SPEED, STRIDE_S = 30.0, 1.70, 1.2, 1.1
THIGH, SHANK, TRUNK = 0.42, 0.41, 0.48
HEEL, TOE, EYE_OVER_SHOULDER = (-0.05, -0.06), (0.16, -0.06), 0.20


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """Picture landmarks (n, 33, 2) px, and the true angles (n,) rad and scale behind them."""

    landmarks: NDArray[np.float64]
    hip: dict[str, NDArray[np.float64]]
    knee: dict[str, NDArray[np.float64]]
    height: NDArray[np.float64]


def _walker(
    seconds: float = 4.0,
    direction: int = 1,
    px_per_m: float = 220.0,
    trend: float = 0.0,
    speed: float = SPEED,
    rate_hz: float = RATE_HZ,
) -> Synthetic:
    """`trend` is the relative growth of the picture scale over the walk."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    body = np.zeros((len(t), 33, 2))
    hips, knees = {}, {}
    body[:, (11, 12)] = np.array([0.02, TRUNK])
    body[:, range(11)] = np.array([0.05, TRUNK + EYE_OVER_SHOULDER])
    body[:, range(13, 23)] = np.array([0.1, 0.1])
    for side, first, phase in (("l", 23, 0.0), ("r", 24, np.pi)):
        phi = 2.0 * np.pi * t / STRIDE_S + phase
        hip = np.radians(5.0 + 25.0 * np.cos(phi))
        knee = np.radians(5.0 + 55.0 * np.exp(4.0 * (np.cos(phi - 2.0 * np.pi * 0.73) - 1.0)))
        hips[side], knees[side] = hip, knee
        down = np.array([np.sin(hip), -np.cos(hip)]).T
        lower = np.array([np.sin(hip - knee), -np.cos(hip - knee)]).T
        body[:, first + 2] = THIGH * down
        body[:, first + 4] = body[:, first + 2] + SHANK * lower
        ahead = np.array([-lower[:, 1], lower[:, 0]]).T
        for offset, part in ((6, HEEL), (8, TOE)):
            body[:, first + offset] = body[:, first + 4] + part[0] * ahead - part[1] * lower
    body[:, :, 1] -= body[:, 29:33, 1].min(axis=1)[:, None]
    # The eyes define the scale, so they are put where anatomy has them when the walker stands tallest.
    body[:, range(11), 1] += 0.936 * STATURE - np.quantile(body[:, NOSE, 1], 0.75)
    body[:, :, 0] += speed * t[:, None]
    scale = px_per_m * (1.0 + trend * t / t[-1])
    hip_x = body[:, HIPS[0], 0]
    way = np.concatenate([[0.0], np.cumsum(np.diff(hip_x) * (scale[1:] + scale[:-1]) / 2.0)])
    picture = np.empty_like(body)
    start = 200.0 if direction > 0 else 1700.0
    picture[:, :, 0] = start + direction * (way[:, None] + (body[:, :, 0] - hip_x[:, None]) * scale[:, None])
    picture[:, :, 1] = 900.0 - body[:, :, 1] * scale[:, None]
    return Synthetic(picture, hips, knees, (body[:, 29:33, 1].min(axis=1) + body[:, NOSE, 1]) * scale)


@pytest.fixture
def walker() -> Callable[..., Synthetic]:
    """Factory of synthetic walkers: walker(seconds, direction, px_per_m, trend, speed, rate_hz)."""
    return _walker


@pytest.fixture(scope="session")
def demo_video() -> Path:
    """The real video that the sports2d wheel carries."""
    spec = importlib.util.find_spec("Sports2D")
    if spec is None or spec.origin is None:
        pytest.skip("sports2d is not installed")
    return Path(spec.origin).parent / "Demo" / "demo.mp4"


@pytest.fixture(scope="session")
def model() -> Path:
    """The installed pose model."""
    try:
        return model_path()
    except ExoError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Reference recordings beside the repository."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder
