import numpy as np
import pytest

from exo_capture.landmarks import LEG_L, LEG_R, LOWER_L, LOWER_R
from exo_capture.leg_repair import repair_legs

RATE_HZ = 30.0
JITTER_PX = 1.5


def exchange(landmarks, frames):
    result = landmarks.copy()
    for frame in frames:
        result[frame, LEG_L], result[frame, LEG_R] = landmarks[frame, LEG_R], landmarks[frame, LEG_L]
    return result


def noisy(landmarks, seed):
    return landmarks + np.random.default_rng(seed).normal(0.0, JITTER_PX, landmarks.shape)


def far_apart(truth, landmarks):
    """Frames in which the feet are at least a fifth of the body height apart."""
    gap = np.abs(landmarks[:, LOWER_L[1], 0] - landmarks[:, LOWER_R[1], 0])
    return np.flatnonzero(gap > 0.2 * truth.height)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("seed", range(3))
def test_exchanged_legs_are_exchanged_back(walker, direction, seed):
    truth = walker(direction=direction)
    clean = noisy(truth.landmarks, seed)
    apart = far_apart(truth, clean)
    apart = apart[(apart > 3) & (apart < len(clean) - 4)]
    single = np.random.default_rng(seed).choice(apart, 4, replace=False)
    frames = sorted({*single, *(apart[len(apart) // 2] + np.arange(3))})
    mended, repair = repair_legs(exchange(clean, frames), truth.height, RATE_HZ)
    assert sorted(np.flatnonzero(repair.exchanged)) == frames
    kept = np.isfinite(mended)
    np.testing.assert_allclose(mended[kept], clean[kept])
    assert repair.rejected.mean() < 0.01


def test_a_clean_walk_is_left_alone(walker):
    truth = walker()
    mended, repair = repair_legs(noisy(truth.landmarks, 0), truth.height, RATE_HZ)
    assert not repair.exchanged.any() and not repair.merged.any()
    assert np.isnan(mended).mean() < 0.005


@pytest.mark.parametrize("true_leg, false_leg", [(LEG_L, LEG_R), (LEG_R, LEG_L)])
def test_both_legs_on_one_are_noticed(walker, true_leg, false_leg):
    truth = walker()
    landmarks = noisy(truth.landmarks, 1)
    apart = far_apart(truth, landmarks)
    first = apart[(apart > 20)][0]
    frames = [first, first + 1]
    broken = landmarks.copy()
    for frame in frames:
        broken[frame, false_leg[1:]] = landmarks[frame, true_leg[1:]] + 1.0
    mended, repair = repair_legs(broken, truth.height, RATE_HZ)
    assert list(np.flatnonzero(repair.merged)) == frames
    assert np.isnan(mended[np.ix_(frames, false_leg[2:])]).all()
    assert np.isfinite(mended[np.ix_(frames, true_leg)]).all()


def test_missing_frames_are_no_obstacle(walker):
    truth = walker()
    landmarks = noisy(truth.landmarks, 2)
    landmarks[40:43] = np.nan
    frame = next(f for f in far_apart(truth, truth.landmarks) if f > 50)
    _, repair = repair_legs(exchange(landmarks, [frame]), truth.height, RATE_HZ)
    assert list(np.flatnonzero(repair.exchanged)) == [frame]
