"""Both hip angles from encoders and IMUs; each goes on with what is left when the other fails.

The encoder tells the angle; the gyros of thigh and pelvis, where they agree with it, make its rate smoother. Beside
it runs an angle from the IMUs alone: gyros integrated, drawn slowly to where gravity says the segments point. What
it is off by is learned while the encoder works and taken off when it does not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from exo_common.clock import NS_PER_S
from exo_common.frames import HIPS
from exo_twin.calibration import TwinCalibration
from exo_twin.live.imu import FASTEST, STUCK_S, SegmentImu, SegmentMotion
from exo_twin.live.samples import IMUS, SEGMENTS, ImuSample, JointSample, Pair, fresh

# Time constants of the light filter: half a period and one period of 100 Hz.
ANGLE_FILTER_S, VELOCITY_FILTER_S = 0.005, 0.010
# After a longer gap the filters start anew from the measurement.
LONGEST_GAP_S = 0.1
# IMU and encoder rates of a hip are averaged while they differ by less than this; a badly mounted or drifting IMU
# differs more and is left out.
RATE_AGREEMENT_RAD_S = 0.5
# After the first IMU is heard the others have this long to appear.
IMUS_START_S = 1.0
# A rate left behind when nothing tells a hip any more is forgotten like this.
FORGET_RATE_S = 0.1
# Gyros are drawn to gravity this slowly: several strides, over which the segments' own accelerations cancel.
GRAVITY_S = 4.0
# What the IMU angle is off by (mounting, mean acceleration of walking, gyro bias) is learned over some strides.
LEARN_S = 3.0
# An encoder that stands still to the last bit while the IMUs turned by this much hangs, rad.
STUCK_TURN = 0.2
# Encoder and IMUs of a hip, once the IMUs have settled for `LEARN_S`, differ by less than this, rad: a jump, exchanged
# sides or a segment turned the wrong way make it more.
CONTRADICTION = 0.25
# No hip flexes or extends this far, rad.
FARTHEST = math.pi
# One standard deviation: a hip encoder with its cuff on soft tissue, checked by IMUs and alone (a slipping cuff would
# not be seen); an angle from IMUs; a pelvis taken as still (it tilts by 2-5 degrees in walking); a hip nothing tells.
CHECKED_SD, ALONE_SD, IMU_SD, STILL_PELVIS_SD, UNKNOWN_HIP_SD = 0.02, 0.03, 0.05, 0.1, 0.3
SIDE_WORDS = ("left", "right")


@dataclasses.dataclass(frozen=True, slots=True)
class HipState:
    """Both hips, left first.

    Attributes
    ----------
    angle, rate, sd : rad, rad/s and rad.
    told_angle, told_rate : what tells each hip now, before the light filter: the encoder, without it the IMUs; NaN
        where nothing does. The phase follows these, so that IMUs do not touch it while encoders live.
    complaints : sentences.
    """

    angle: Pair
    rate: Pair
    sd: Pair
    told_angle: Pair
    told_rate: Pair
    complaints: tuple[str, ...]


@dataclasses.dataclass(slots=True)
class _Hip:
    """What is remembered of one hip; `imu`: the IMUs' angle, integrated for `settled` s; `off`: the encoder's above it,
    learned for `learned` s; `contradiction`: by how much the two differ now beyond reason."""

    angle: float = 0.0
    rate: float = 0.0
    imu: float = math.nan
    off: float = 0.0
    learned: float = 0.0
    settled: float = 0.0
    contradiction: float = 0.0
    reading: Pair = (math.nan, math.nan)
    same_s: float = 0.0
    turned: float = 0.0
    turned_most: float = 0.0


class HipFusion:
    """The state of both hips' filters.

    Parameters
    ----------
    calibration : zeros of the encoders and how the IMUs sit.
    """

    def __init__(self, calibration: TwinCalibration) -> None:
        self._zero = tuple(calibration.encoder_zero[name] for name in HIPS)
        self._zero_sd = tuple(calibration.encoder_zero_sd[name] for name in HIPS)
        self._imus = [SegmentImu(name, calibration.imu_rotation[name]) for name in SEGMENTS]
        about_y = [float(calibration.imu_rotation_sd[name][1]) for name in SEGMENTS]
        self._mounting_sd = tuple(math.hypot(about_y[0], own) for own in about_y[1:])
        self._hips = (_Hip(), _Hip())
        self._stamp: int | None = None
        self._first_imu_ns: int | None = None

    def step(self, now_ns: int, joints: JointSample | None, imus: Mapping[str, ImuSample]) -> HipState:
        """Process one tick.

        Parameters
        ----------
        joints : None or stale where the encoders are silent.
        imus : topic -> newest sample, those of :data:`samples.IMUS` that came already.
        """
        gap = math.inf if self._stamp is None else (now_ns - self._stamp) / NS_PER_S
        self._stamp = now_ns
        pelvis, *thighs = (imu.step(now_ns, imus.get(topic)) for imu, topic in zip(self._imus, IMUS, strict=True))
        encoders = joints if fresh(joints, now_ns) else None
        complaints = [imu.complaint for imu in self._imus if imu.complaint]
        if imus and self._first_imu_ns is None:
            self._first_imu_ns = now_ns
        if 0 < len(imus) < len(IMUS) and now_ns - (self._first_imu_ns or now_ns) > IMUS_START_S * NS_PER_S:
            missing = ", ".join(name for name, topic in zip(SEGMENTS, IMUS, strict=True) if topic not in imus)
            complaints.append(f"no IMU of {missing} has been heard")
        if encoders is None:
            complaints.append("the encoders are silent")
        spread, told = [], []
        for i, (hip, thigh) in enumerate(zip(self._hips, thighs, strict=True)):
            reading = (encoders.position[i] - self._zero[i], encoders.velocity[i]) if encoders else (math.nan, math.nan)
            turn = _between(thigh, pelvis)
            self._follow_imus(hip, turn, thigh, pelvis, gap)
            trusted = _trusted(hip, reading, turn, gap)
            if encoders is not None and not trusted:
                complaints.append(
                    f"the encoder of the {SIDE_WORDS[i]} hip tells no number, an impossible one, or hangs"
                )
            spread.append(self._correct(i, reading if trusted else None, turn, pelvis is not None, gap))
            if hip.contradiction:
                complaints.append(
                    f"the encoder of the {SIDE_WORDS[i]} hip contradicts the IMUs; "
                    "has one of them slipped, or are sides exchanged?"
                )
            told.append(reading if trusted else (hip.imu + hip.off, turn))
        (left, right) = self._hips
        return HipState(
            (left.angle, right.angle),
            (left.rate, right.rate),
            (spread[0], spread[1]),
            (told[0][0], told[1][0]),
            (told[0][1], told[1][1]),
            tuple(complaints),
        )

    @staticmethod
    def _follow_imus(
        hip: _Hip, turn: float, thigh: SegmentMotion | None, pelvis: SegmentMotion | None, gap: float
    ) -> None:
        """Integrate the gyros and lean on gravity."""
        if thigh is None:
            hip.imu = math.nan
            return
        tilt = thigh.tilt - (pelvis.tilt if pelvis else 0.0)
        if not (math.isfinite(hip.imu) and 0.0 <= gap <= LONGEST_GAP_S):
            hip.imu, hip.settled = tilt, 0.0
            return
        hip.settled += gap
        hip.imu += gap * turn
        if math.isfinite(tilt):
            still = thigh.stillness * (pelvis.stillness if pelvis else 1.0)
            hip.imu += (1.0 - math.exp(-gap * still / GRAVITY_S)) * (tilt - hip.imu)

    def _correct(self, i: int, reading: Pair | None, turn: float, pelvis: bool, gap: float) -> float:
        """Move the hip to what tells it best; gives its standard deviation."""
        hip = self._hips[i]
        steady = 0.0 <= gap <= LONGEST_GAP_S
        hip.contradiction = 0.0
        if reading is not None:
            angle, rate = reading
            agrees = pelvis and abs(turn - rate) < RATE_AGREEMENT_RAD_S
            if agrees:
                rate = 0.5 * (rate + turn)
            if steady and math.isfinite(hip.imu):
                apart = abs(angle - hip.imu - hip.off)
                if min(hip.settled, hip.learned) > LEARN_S and apart > CONTRADICTION:
                    hip.contradiction = apart
                hip.learned += gap
                # A running mean at first, a slow filter after.
                hip.off += gap / min(hip.learned, LEARN_S) * (angle - hip.imu - hip.off) if hip.learned else 0.0
            spread = math.hypot(CHECKED_SD if agrees else ALONE_SD, self._zero_sd[i])
            spread = min(math.hypot(spread, hip.contradiction), max(spread, UNKNOWN_HIP_SD))
        elif math.isfinite(hip.imu):
            angle, rate = hip.imu + hip.off, turn
            share = math.exp(-hip.learned / LEARN_S)
            learned = math.hypot(self._zero_sd[i], IMU_SD)
            mounted = math.hypot(self._mounting_sd[i], IMU_SD)
            spread = math.hypot(ALONE_SD, (1.0 - share) * learned + share * mounted)
            spread = math.hypot(spread, 0.0 if pelvis else STILL_PELVIS_SD)
            spread = min(spread, UNKNOWN_HIP_SD * 0.99)
        else:
            hip.rate *= math.exp(-max(0.0, gap) / FORGET_RATE_S)
            return UNKNOWN_HIP_SD
        if not steady:
            hip.angle, hip.rate = angle, rate
            return spread
        predicted = hip.angle + gap * hip.rate
        hip.angle = predicted + (1.0 - math.exp(-gap / ANGLE_FILTER_S)) * (angle - predicted)
        hip.rate += (1.0 - math.exp(-gap / VELOCITY_FILTER_S)) * (rate - hip.rate)
        return spread


def _between(thigh: SegmentMotion | None, pelvis: SegmentMotion | None) -> float:
    """Rate of hip flexion by the gyros, rad/s; a pelvis without IMU is taken as still. NaN without a thigh."""
    if thigh is None:
        return math.nan
    return thigh.rate - (pelvis.rate if pelvis else 0.0)


def _trusted(hip: _Hip, reading: Pair, turn: float, gap: float) -> bool:
    """Whether the encoder tells possible numbers and moves when the IMUs say that the thigh does."""
    if not (abs(reading[0]) < FARTHEST and abs(reading[1]) < FASTEST):
        return False
    if reading != hip.reading:
        hip.reading, hip.same_s, hip.turned, hip.turned_most = reading, 0.0, 0.0, 0.0
    elif gap <= LONGEST_GAP_S:
        hip.same_s += max(0.0, gap)
        hip.turned += gap * turn if math.isfinite(turn) else 0.0
        hip.turned_most = max(hip.turned_most, abs(hip.turned))
    return hip.same_s <= STUCK_S or hip.turned_most < STUCK_TURN
