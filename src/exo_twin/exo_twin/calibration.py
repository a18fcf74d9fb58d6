"""How what a wearer wears reads on this wearer: `calibration.yaml` inside the twin.

    kind: twin_calibration
    schema_version: 1
    wearer: w01
    encoders:            # true angle = reading - zero
      hip_flexion_l: {zero_rad: 0.0312, sd_rad: 0.031}
    imus:                # vector in the segment = rotation applied to the vector in the sensor
      thigh_l: {quaternion_xyzw: [0.01, -0.12, 0.03, 0.99], sd_rad: [0.02, 0.03, 0.02]}
    emg:                 # activation = shape(gain * envelope, delay_s later)
      soleus_r: {muscles: [soleus_r], gain: 1.3, delay_s: 0.04, shape: -1.0}
    source: {encoders: ..., imus: ..., emg: ...}

A segment's axes are x forward, y left, z up (REP-103) in the anatomical neutral pose. The file is written anew
whenever the exo is put on, so the twin's manifest does not list it; it names its wearer itself.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from exo_common.errors import ExoError
from exo_common.frames import HIPS

FloatArray = NDArray[np.float64]

CALIBRATION_FILE = "calibration.yaml"
KIND, SCHEMA_VERSION = "twin_calibration", 1
SEGMENTS = ("pelvis", "thigh_l", "thigh_r")
SECTIONS = ("encoders", "imus", "emg")
CURE = "calibrate again with python -m exo_twin calibrate <twin>"

# One standard deviation of what nobody calibrated: a cuff's angle after putting the exo on (the day to day spread that
# the envelope's margin allows for), and a sensor strapped on by eye: 30 degrees off is two standard deviations.
UNCALIBRATED_ZERO_SD, UNCALIBRATED_MOUNTING_SD = 0.17, math.radians(15.0)
# A quaternion written with six digits has norm 1 to this; one further off is no rotation.
NORM_TOLERANCE = 1e-3
# Beyond it an encoder was not off by a cuff's slip but counts another turn or another axis, rad.
LARGEST_ZERO = math.pi


@dataclasses.dataclass(frozen=True)
class EmgChannel:
    """How one EMG channel drives the model's muscles.

    Attributes
    ----------
    muscles : the model's muscles that share this channel.
    gain : neural drive per unit of the envelope (a fraction of the maximum).
    delay_s : electromechanical delay from the envelope to the muscle.
    shape : of the activation over the drive, -3 (strongly curved) to 0 (straight).
    """

    muscles: tuple[str, ...]
    gain: float = 1.0
    delay_s: float = 0.0
    shape: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.gain, self.delay_s, self.shape)
        if not self.muscles or not all(math.isfinite(number) for number in numbers):
            raise ExoError(f"an EMG channel needs muscles and finite numbers, not {self}; {CURE}")
        if self.gain <= 0.0 or self.delay_s < 0.0:
            raise ExoError(f"an EMG channel's gain must be positive and its delay not negative, not {self}; {CURE}")


@dataclasses.dataclass(frozen=True)
class TwinCalibration:
    """The wearer's calibration.

    Attributes
    ----------
    wearer : whose.
    encoder_zero : (hip coordinate -> rad) what the encoder reads where the model's flexion is zero.
    encoder_zero_sd : the same keys, rad, one standard deviation.
    imu_rotation : (segment -> (3, 3)) takes vectors from the sensor's axes to the segment's.
    imu_rotation_sd : (segment -> (3,)) rad, one standard deviation about the segment's x, y and z.
    emg : channel -> how it drives the model's muscles.
    source : section of :data:`SECTIONS` -> where its numbers come from, in words.
    """

    wearer: str
    encoder_zero: Mapping[str, float]
    encoder_zero_sd: Mapping[str, float]
    imu_rotation: Mapping[str, FloatArray]
    imu_rotation_sd: Mapping[str, FloatArray]
    emg: Mapping[str, EmgChannel] = dataclasses.field(default_factory=dict)
    source: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @staticmethod
    def identity(wearer: str) -> TwinCalibration:
        """Encoders and IMUs taken as they are, with the uncertainty of what nobody calibrated; no EMG channel."""
        return TwinCalibration(
            wearer,
            dict.fromkeys(HIPS, 0.0),
            dict.fromkeys(HIPS, UNCALIBRATED_ZERO_SD),
            {name: np.eye(3) for name in SEGMENTS},
            {name: np.full(3, UNCALIBRATED_MOUNTING_SD) for name in SEGMENTS},
        )

    def with_emg(self, emg: Mapping[str, EmgChannel], source: str) -> TwinCalibration:
        """These EMG channels in place of all earlier ones; what is worn is kept."""
        return dataclasses.replace(self, emg=dict(emg), source={**self.source, "emg": source})

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        ExoError : if the disk is full or the place cannot be written.
        """
        try:
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as scratch:
                own = Path(scratch.name)
                try:
                    yaml.safe_dump(_plain(self), scratch, sort_keys=False, default_flow_style=None, width=120)
                    scratch.flush()
                    own.chmod(0o644)
                    own.replace(path)
                except OSError:
                    own.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise ExoError(
                f"{path} could not be written ({error.strerror}); free disk space or mend its rights"
            ) from None

    @staticmethod
    def load(path: Path, wearer: str | None = None) -> TwinCalibration:
        """Read and check the file.

        Parameters
        ----------
        wearer : whose it must be; None takes anybody's.

        Raises
        ------
        ExoError : if it is missing, damaged, of another kind, schema or wearer, or a number is impossible.
        """
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError:
            raise ExoError(f"{path} is missing; {CURE}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ExoError(f"{path} is not valid YAML ({str(error).splitlines()[0]}); {CURE}") from None
        if not isinstance(raw, dict) or raw.get("kind") != KIND:
            raise ExoError(f"{path} is no calibration of a twin; {CURE}")
        if raw.get("schema_version") != SCHEMA_VERSION:
            raise ExoError(
                f"{path} has schema version {raw.get('schema_version')}, this software reads {SCHEMA_VERSION}; {CURE}"
            )
        if wearer is not None and raw.get("wearer") != wearer:
            raise ExoError(
                f"{path} belongs to wearer '{raw.get('wearer')}', not '{wearer}'; calibrate this wearer with "
                "python -m exo_twin calibrate <twin>"
            )
        return _parsed(raw, path)

    @staticmethod
    def of_twin(folder: Path, wearer: str) -> TwinCalibration:
        """The calibration inside a twin's folder; :meth:`identity` where there is none yet.

        Raises
        ------
        ExoError : as :meth:`load`; a file that is there but damaged is never ignored.
        """
        path = folder / CALIBRATION_FILE
        return TwinCalibration.load(path, wearer) if path.exists() else TwinCalibration.identity(wearer)


def _plain(own: TwinCalibration) -> dict[str, Any]:
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "wearer": own.wearer,
        "encoders": {
            name: {"zero_rad": _rounded(zero), "sd_rad": _rounded(own.encoder_zero_sd[name])}
            for name, zero in own.encoder_zero.items()
        },
        "imus": {
            name: {
                "quaternion_xyzw": [_rounded(v) for v in Rotation.from_matrix(rotation).as_quat()],
                "sd_rad": [_rounded(v) for v in own.imu_rotation_sd[name]],
            }
            for name, rotation in own.imu_rotation.items()
        },
        "emg": {name: {**dataclasses.asdict(one), "muscles": list(one.muscles)} for name, one in own.emg.items()},
        "source": dict(own.source),
    }


def _rounded(value: float) -> float:
    """Six digits: finer than any sensor, and readable."""
    return round(float(value), 6)


def _parsed(raw: Mapping[str, Any], path: Path) -> TwinCalibration:
    try:
        encoders = {name: _numbers(raw["encoders"][name], ("zero_rad", "sd_rad")) for name in HIPS}
        imus = {name: dict(raw["imus"][name]) for name in SEGMENTS}
        turns = {name: _vector(own["quaternion_xyzw"], 4) for name, own in imus.items()}
        spread = {name: _vector(own["sd_rad"], 3) for name, own in imus.items()}
        emg = {
            str(name): EmgChannel(tuple(str(m) for m in own["muscles"]), *_numbers(own, ("gain", "delay_s", "shape")))
            for name, own in raw["emg"].items()
        }
        source = {str(section): str(words) for section, words in raw["source"].items()}
    except ExoError as error:
        raise ExoError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExoError(f"{path} is damaged ({type(error).__name__}: {error}); {CURE}") from None
    for name, turn in turns.items():
        if abs(float(np.linalg.norm(turn)) - 1.0) > NORM_TOLERANCE:
            raise ExoError(f"{path}: the quaternion of IMU '{name}' is no rotation; {CURE}")
    if any(sd <= 0.0 for _, sd in encoders.values()) or any((sd <= 0.0).any() for sd in spread.values()):
        raise ExoError(f"{path}: standard deviations must be positive; {CURE}")
    for name, (zero, _) in encoders.items():
        if abs(zero) > LARGEST_ZERO:
            raise ExoError(f"{path}: {name} has its zero at {zero:.2f} rad, more than half a turn off; {CURE}")
    return TwinCalibration(
        str(raw.get("wearer")),
        {name: zero for name, (zero, _) in encoders.items()},
        {name: sd for name, (_, sd) in encoders.items()},
        {name: Rotation.from_quat(turn).as_matrix() for name, turn in turns.items()},
        spread,
        emg,
        source,
    )


def _numbers(own: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[float, ...]:
    values = tuple(float(own[key]) for key in keys)
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{', '.join(keys)} must be finite, not {dict(own)}")
    return values


def _vector(values: Any, length: int) -> FloatArray:
    vector = np.array([float(value) for value in values])
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise ValueError(f"{length} finite numbers are needed, not {values}")
    return vector
