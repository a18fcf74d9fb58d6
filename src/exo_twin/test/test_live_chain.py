from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from live_chain import Chain, Subject, batch, live, subject
from live_estimator import stride_agreement
from live_twin import write_twin

from exo_twin.inverse.streaming_derivatives import StreamingConfig
from exo_twin.opensim_runtime import logging_to

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
pytestmark = pytest.mark.skipif(not (DATA / "walking_3d").is_dir(), reason="no reference recordings")
# Of the causal filter, beside joint moments of up to 170 Nm and activations of up to 1.
ANGLE_RAD, MOMENT_NM, ACTIVATION = 0.01, 5.0, 0.03


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("opensim")
    with logging_to(folder / "opensim.log"):
        return subject(DATA, folder)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def apart(one: Chain, other: Chain) -> tuple[float, float, float]:
    return rms(one.angle - other.angle), rms(one.moment - other.moment), rms(one.activation - other.activation)


def test_frame_by_frame_gives_what_the_batch_gives_after_the_stated_delay(walk: Subject) -> None:
    streamed, delays, _ = live(walk)
    stated = StreamingConfig().delay_s
    assert np.allclose(delays, stated, atol=1e-6) and len(streamed.time) > 80
    whole = batch(walk)
    angle, moment, activation = apart(streamed, whole.at(streamed.time))
    assert angle < ANGLE_RAD and moment < MOMENT_NM and activation < ACTIVATION
    # The delay is what it is said to be: taken as of any other time, the moments agree less.
    for shift in (-0.02, 0.02, stated):
        assert apart(streamed, whole.at(streamed.time + shift))[1] > 1.5 * moment


def test_the_future_changes_nothing(walk: Subject) -> None:
    rows = slice(0, 80)
    cut = Subject(
        walk.ik,
        walk.inertia,
        walk.muscles,
        type(walk.markers)(walk.markers.time[rows], walk.markers.names, walk.markers.position[rows]),
        [force.frames(rows) for force in walk.forces],
    )
    short, long = live(cut)[0], live(walk)[0]
    assert np.array_equal(short.activation, long.activation[: len(short.time)])


def test_from_the_hips_alone_the_estimator_finds_the_activations_of_the_wearers_stride(tmp_path: Path) -> None:
    with logging_to(tmp_path / "opensim.log"):
        found = stride_agreement(DATA, write_twin(DATA, tmp_path / "twin"))
    assert found["live_hips_only_activation_rmse"] < 0.05 and found["live_hips_only_activation_r"] > 0.85
