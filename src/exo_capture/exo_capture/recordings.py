"""Recordings of several cameras put side by side: by name, in the calibration's pixels, on one clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.calibration_files import picture_scale
from exo_capture.camera_health import mirrored
from exo_capture.cameras import Camera
from exo_capture.landmarks import Detections
from exo_capture.synchronise import Synchronisation
from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

MIN_DURATION_S = 0.5  # in less, neither people nor outliers can be told by their motion


@dataclasses.dataclass(frozen=True)
class Recording:
    """Detections with the cameras that made them.

    Attributes
    ----------
    synchronisation : None if the clocks are taken as they are.
    mirrored : names of the cameras whose pictures were turned back from a mirror's.
    """

    detections: tuple[Detections, ...]
    cameras: tuple[Camera, ...]
    synchronisation: Synchronisation | None = None
    mirrored: frozenset[str] = frozenset()

    @property
    def offsets_s(self) -> FloatArray:
        """(c,) s to be added to each camera's clock."""
        if self.synchronisation is None:
            return np.zeros(len(self.cameras))
        return self.synchronisation.offsets_s

    @property
    def times(self) -> list[FloatArray]:
        """Of each camera's pictures on the common clock, s."""
        return [d.time + offset for d, offset in zip(self.detections, self.offsets_s, strict=True)]

    def with_mirrored(self, camera: int) -> Recording:
        """The same with one picture mirrored."""
        changed = tuple(mirrored(d) if c == camera else d for c, d in enumerate(self.detections))
        return dataclasses.replace(self, detections=changed, mirrored=self.mirrored ^ {self.cameras[camera].name})

    def without(self, camera: int) -> Recording:
        """The same without one camera."""
        keep = [c for c in range(len(self.cameras)) if c != camera]
        return dataclasses.replace(
            self,
            detections=tuple(self.detections[c] for c in keep),
            cameras=tuple(self.cameras[c] for c in keep),
            synchronisation=None,
        )


def match(detections: Sequence[Detections], cameras: Sequence[Camera]) -> tuple[Recording, list[str]]:
    """Pair detections with their cameras, in pixels of the calibration; and what to tell about cameras left out.

    Raises
    ------
    ExoError : if a recording has no calibration or another picture size or is too short, or fewer than two cameras
        see somebody.
    """
    by_name = {d.camera: d for d in detections}
    strangers = sorted(set(by_name) - {camera.name for camera in cameras})
    if strangers:
        raise ExoError(
            f"there is no calibration for {', '.join(strangers)} (it has {', '.join(c.name for c in cameras)}); "
            "name the recordings as the calibration names the cameras"
        )
    warnings, kept = [], []
    for camera in cameras:
        seen = by_name.get(camera.name)
        if seen is None or not len(seen.frame):
            what = "has no recording" if seen is None else "sees nobody"
            warnings.append(f"{camera.name} {what}; the others go on without it")
        else:
            kept.append((_in_calibrated_pixels(seen, camera), camera))
    if len(kept) < 2:
        raise ExoError(
            f"only {len(kept)} of {len(cameras)} calibrated cameras sees somebody; two are needed: "
            "add a recording, or use the pipeline for one camera"
        )
    for found, camera in kept:
        if len(found.time) < 2 or np.ptp(found.time) < MIN_DURATION_S:
            raise ExoError(
                f"the recording of {camera.name} holds only {len(found.time)} frames; record at least "
                f"{MIN_DURATION_S:g} s, and several strides to be useful"
            )
    return Recording(tuple(d for d, _ in kept), tuple(c for _, c in kept)), warnings


def _in_calibrated_pixels(detections: Detections, camera: Camera) -> Detections:
    scale = picture_scale(camera, detections.size)
    if scale == 1.0:
        return detections
    landmarks = detections.landmarks.copy()
    landmarks[..., :2] *= scale
    return dataclasses.replace(detections, landmarks=landmarks, size=camera.size)
