"""Guards the legs while pictures come in: exchanged legs, and joints that jump, told by what went before.

The offline repair (leg_repair.py) sees both sides of a fault; here only the past is
known. So a fault is mended for a moment, and what lasts is believed.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import LEG_L, LEG_R, LOWER_L, LOWER_R, hip_centre
from exo_capture.leg_repair import MAX_PREDICTION_S, STEP_CAP

# Lengths in body heights of the wearer (nose to foot), times in s; positions relative to the hip centre.
JOINTS = (*LOWER_L, *LOWER_R)
FITS = 0.06  # mean distance of the joints from their prediction: exchanged legs must be where they are expected
EXCHANGE_GAIN = 0.02  # and nearer to it by this much than the legs as the estimator named them
OUTLIER = 0.15  # off the predicted place; a walker's feet stay within 0.12 when seen 30 times a second
USUAL_S = 1.0 / 30.0
DRIFT = 3.0  # per s beyond that: how much further a joint may be, the longer ago it was seen
MAX_DOUBT_S = 0.25  # an exchange that lasts longer than a quarter of a stride was none
MAX_JUMP_S = 0.1  # and a jump must be over before the prediction is worth nothing
POSITION_GAIN, VELOCITY_GAIN = 0.8, 0.35  # of the prediction, per picture: trusts the picture, forgets in three
AGREEMENT = 0.5  # of the distance at which a joint is left out: there confidence has fallen to 0.6
OTHER_LEG = np.arange(33)
OTHER_LEG[[*LEG_L, *LEG_R]] = (*LEG_R, *LEG_L)


@dataclasses.dataclass
class _Past:
    """Place (8, 2), velocity (8, 2) and time of the lower joints when they were last predicted."""

    place: NDArray[np.float64]
    velocity: NDArray[np.float64]
    time: float


class LegGuard:
    """Mends the legs of one person, picture by picture.

    Attributes
    ----------
    exchanged, rejected : pictures whose legs were exchanged back; joints left out.
    """

    def __init__(self) -> None:
        self.exchanged = self.rejected = 0
        self._past: _Past | None = None
        self._exchanged_since = np.inf
        self._rejected_since = np.full(len(JOINTS), np.inf)
        self._accepted_at = np.zeros(len(JOINTS))

    def step(self, landmarks: NDArray[np.float64], height: float, time: float) -> NDArray[np.float64]:
        """Landmarks (33, 3) px, px, confidence, mended; a joint that jumps has NaN and confidence 0.

        Parameters
        ----------
        landmarks : (33, 3) px, px, confidence as the estimator gave them, at `time` s (rising).
        height : of the wearer in the picture, px.
        """
        seen = (landmarks[:, :2] - hip_centre(landmarks)) / height
        past = self._past
        known = past is not None and 0.0 < time - past.time <= MAX_PREDICTION_S
        if past is None or not known or time - self._exchanged_since > MAX_DOUBT_S:
            self._past = _Past(seen[list(JOINTS)], np.zeros((len(JOINTS), 2)), time)
            self._exchanged_since, self._rejected_since[:], self._accepted_at[:] = np.inf, np.inf, time
            return landmarks
        interval = time - past.time
        expected = past.place + past.velocity * interval
        mended = landmarks.copy()
        if self._is_exchanged(seen, expected, time):
            self.exchanged += 1
            mended, seen = landmarks[OTHER_LEG], seen[OTHER_LEG]
        joints = seen[list(JOINTS)]
        off = np.linalg.norm(joints - expected, axis=1)
        allowed = OUTLIER + DRIFT * np.maximum(0.0, time - self._accepted_at - USUAL_S)
        jumps = self._jumps(off > allowed, time)
        self.rejected += int(jumps.sum())
        innovation = np.where(jumps[:, None], 0.0, joints - expected)
        self._past = _Past(
            expected + POSITION_GAIN * innovation, past.velocity + VELOCITY_GAIN * innovation / interval, time
        )
        mended[JOINTS, 2] *= np.exp(-0.5 * (off / (AGREEMENT * allowed)) ** 2)
        wrong = np.array(JOINTS)[jumps]
        mended[wrong, :2], mended[wrong, 2] = np.nan, 0.0
        return mended

    def _is_exchanged(self, seen: NDArray[np.float64], expected: NDArray[np.float64], time: float) -> bool:
        plain, other = (
            float(np.minimum(np.linalg.norm(joints - expected, axis=1), STEP_CAP).mean())
            for joints in (seen[list(JOINTS)], seen[OTHER_LEG][list(JOINTS)])
        )
        if other > FITS or other + EXCHANGE_GAIN > plain:
            self._exchanged_since = np.inf
            return False
        self._exchanged_since = min(self._exchanged_since, time)
        return True

    def _jumps(self, far: NDArray[np.bool_], time: float) -> NDArray[np.bool_]:
        """Which of the joints that are too far (8,) are not believed yet."""
        self._rejected_since = np.where(far, np.minimum(self._rejected_since, time), np.inf)
        jumps = np.asarray(far & (time - self._rejected_since <= MAX_JUMP_S))
        self._accepted_at = np.where(jumps, self._accepted_at, time)
        return jumps
