"""Calibration files: Pose2Sim's `.toml`, which is also ours, and Qualisys' `.qca.txt`."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from exo_capture.cameras import Camera
from exo_common.errors import ExoError

# Tables of a .toml calibration that describe no camera.
NOT_CAMERAS = frozenset({"metadata", "capture_volume", "charuco", "checkerboard"})
# Qualisys gives pixels in 64ths, places in mm, and camera axes x right, y up, z backwards.
SUBPIXEL = 64.0
MM = 1e-3
QUALISYS_TO_OPENCV = np.diag([1.0, -1.0, -1.0])
# Models of cameras that film; the others of a Qualisys system see markers only. "none" is what converters write.
FILMING = ("video", "none")
# Encoders drop or add less than a block of 16 px at a picture's right and lower edge (1088 becomes 1080).
ENCODER_BLOCK_PX = 16
# A room is smaller than this; a larger distance from the origin is one in mm.
FURTHEST_CAMERA_M = 100.0


def read_calibration(path: Path, binning: int = 1) -> list[Camera]:
    """Cameras of a Pose2Sim `.toml` or a Qualisys `.qca.txt` calibration, in the file's order and room.

    Parameters
    ----------
    binning : for Qualisys files, sensor pixels per video pixel along an edge.

    Raises
    ------
    ExoError : if the file is missing, is no calibration, or one of its cameras cannot be right.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExoError(f"the calibration {path} cannot be read ({error.strerror}); check the file name") from None
    qualisys = content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    try:
        cameras = _from_qualisys(content, path, binning) if qualisys else _from_toml(content, path)
    except (KeyError, TypeError, ValueError, ElementTree.ParseError) as error:
        raise ExoError(
            f"{path} is not a complete camera calibration ({_reason(error)}); "
            "give a Pose2Sim .toml or a Qualisys .qca.txt file"
        ) from None
    if not cameras:
        raise ExoError(
            f"{path} holds no calibrated video camera; give the calibration, not the configuration, of the session"
        )
    for camera in cameras:
        _require_sane(camera, path)
    if len(cameras) > 1 and all(np.allclose(camera.centre, cameras[0].centre) for camera in cameras):
        raise ExoError(
            f"all cameras of {path} stand at the same place: only lenses were calibrated; calibrate places too"
        )
    return cameras


def write_calibration(path: Path, cameras: Sequence[Camera], error_px: float = 0.0) -> None:
    """Write cameras in Pose2Sim's `.toml` form; `error_px` is their mean reprojection error."""
    lines = []
    for camera in cameras:
        distortion = camera.distortion if camera.distortion[4] else camera.distortion[:4]
        lines += [
            f"[{_key(camera.name)}]",
            f"name = {json.dumps(camera.name)}",
            f"size = {_array(camera.size)}",
            f"matrix = [ {', '.join(_array(row) for row in camera.matrix)}]",
            f"distortions = {_array(distortion)}",
            f"rotation = {_array(cv2.Rodrigues(camera.rotation)[0].ravel())}",
            f"translation = {_array(camera.translation)}",
            "fisheye = false",
            "",
        ]
    lines += ["[metadata]", "adjusted = false", f"error = {float(error_px)!r}", ""]
    try:
        path.write_text("\n".join(lines), encoding="utf-8")
    except OSError as error:
        raise ExoError(f"{path} could not be written ({error.strerror}); choose another folder") from None


def cameras_for(names: Iterable[str], cameras: Sequence[Camera]) -> list[Camera]:
    """The calibrated camera of each recording's name, in the recordings' order.

    Raises
    ------
    ExoError : if a recording's camera is not in the calibration.
    """
    known = {camera.name: camera for camera in cameras}
    wanted = list(names)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ExoError(
            f"the calibration lacks {', '.join(missing)} (it has {', '.join(known)}); "
            "name the recordings as the cameras or calibrate again with all cameras"
        )
    return [known[name] for name in wanted]


def picture_scale(camera: Camera, size: tuple[int, int]) -> float:
    """Pixels of the calibration per pixel of a picture of another `size` (width, height) px.

    A picture that lacks or adds less than an encoder's block at its right and lower edge has scale 1; one of the
    same shape is taken to be the calibrated picture made smaller or larger.

    Raises
    ------
    ExoError : if the calibration cannot belong to the picture.
    """
    (width, height), (calibrated_width, calibrated_height) = size, camera.size
    if max(abs(width - calibrated_width), abs(height - calibrated_height)) < ENCODER_BLOCK_PX:
        return 1.0
    scale = calibrated_width / width
    if abs(scale * height - calibrated_height) < ENCODER_BLOCK_PX:
        return scale
    turned = ", turned by 90 degrees" if size == camera.size[::-1] else ""
    raise ExoError(
        f"{camera.name}'s picture is {width}x{height} px but was calibrated at {calibrated_width}x{calibrated_height} "
        f"px{turned}; calibrate again in the recording's mode or give that camera's own calibration"
    )


def _from_toml(content: bytes, path: Path) -> list[Camera]:
    tables = tomllib.loads(content.decode("utf-8"))
    cameras = []
    for key, table in tables.items():
        if key in NOT_CAMERAS or not isinstance(table, dict):
            continue
        if "matrix" not in table and "distortions" not in table:
            continue  # a table of a configuration file
        name = str(table.get("name", key))
        if table.get("fisheye"):
            raise ExoError(f"{name} in {path} is a fisheye camera; calibrate it with the standard lens model")
        width, height = (round(float(v)) for v in table["size"])
        cameras.append(
            Camera(
                name,
                (width, height),
                _numbers(table, "matrix", (3, 3)),
                _five(table["distortions"], name, path),
                cv2.Rodrigues(_numbers(table, "rotation", (3,)))[0],
                _numbers(table, "translation", (3,)),
            )
        )
    return cameras


def _from_qualisys(content: bytes, path: Path, binning: int) -> list[Camera]:
    root = ElementTree.fromstring(content)
    cameras = []
    for element in root.iter("camera"):
        name = element.attrib["serial"]
        if not any(word in element.get("model", "none").lower() for word in FILMING):
            continue
        if element.get("calibrated", "true").lower() == "false":
            continue
        if float(element.get("viewrotation", "0")):
            raise ExoError(
                f"the view of camera {name} in {path} is turned by {element.get('viewrotation')} degrees; "
                "set the view rotation to 0 in QTM and export calibration and videos again"
            )
        intrinsic, transform = _values(element, "intrinsic"), _values(element, "transform")
        if element.find("fov_video") is not None:
            view = _values(element, "fov_video")
            left, top, right, bottom = (view[side] for side in ("left", "top", "right", "bottom"))
        else:
            left, top = (intrinsic[f"sensorMin{axis}"] // SUBPIXEL for axis in "UV")
            right, bottom = (intrinsic[f"sensorMax{axis}"] // SUBPIXEL for axis in "UV")
        pixel = SUBPIXEL * binning
        to_camera = np.array([[transform[f"r{row}{column}"] for column in "123"] for row in "123"])
        rotation = QUALISYS_TO_OPENCV @ to_camera
        centre = MM * np.array([transform[axis] for axis in "xyz"])
        cameras.append(
            Camera(
                name,
                (round((right - left + 1) / binning), round((bottom - top + 1) / binning)),
                np.array(
                    [
                        [intrinsic["focalLengthU"] / pixel, 0.0, intrinsic["centerPointU"] / pixel - left / binning],
                        [0.0, intrinsic["focalLengthV"] / pixel, intrinsic["centerPointV"] / pixel - top / binning],
                        [0.0, 0.0, 1.0],
                    ]
                ),
                # Distortion acts on normalised coordinates: it has no unit that subpixels or binning could change.
                np.array(
                    [
                        intrinsic["radialDistortion1"],
                        intrinsic["radialDistortion2"],
                        intrinsic["tangentalDistortion1"],
                        intrinsic["tangentalDistortion2"],
                        intrinsic.get("radialDistortion3", 0.0),
                    ]
                ),
                rotation,
                -rotation @ centre,
            )
        )
    return cameras


def _values(element: ElementTree.Element, tag: str) -> dict[str, float]:
    child = element.find(tag)
    if child is None:
        raise KeyError(tag)
    values = {}
    for key, text in child.attrib.items():
        try:
            values[key] = float(text)
        except ValueError:
            continue  # a description; a number that is needed will be missed by its name
    return values


def _numbers(table: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = np.array(table[key], dtype=float)
    if values.shape != shape:
        raise ValueError(f"{key} has {values.size} numbers instead of {np.prod(shape)}")
    return values


def _five(distortion: Sequence[float], name: str, path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = np.array(distortion, dtype=float).ravel()
    if len(values) not in (4, 5) and not (len(values) > 5 and not values[5:].any()):
        raise ExoError(
            f"{name} in {path} has {len(values)} distortion coefficients; "
            "calibrate with the lens model of 4 or 5 (k1 k2 p1 p2 k3)"
        )
    return np.concatenate([values, [0.0]])[:5]


def _require_sane(camera: Camera, path: Path) -> None:
    who = f"{camera.name} in {path}"
    numbers = (camera.matrix, camera.distortion, camera.rotation, camera.translation)
    if not all(np.isfinite(values).all() for values in numbers):
        raise ExoError(f"{who} has numbers that are not finite; calibrate this camera again")
    width, height = camera.size
    if width <= 0 or height <= 0:
        raise ExoError(f"{who} has a picture of {width}x{height} px; write the size of its video")
    focal = camera.matrix[[0, 1], [0, 1]]
    if (focal <= 0.0).any():
        raise ExoError(f"{who} has a focal length of {focal.min():g} px; calibrate this camera again")
    if not (0.0 < camera.matrix[0, 2] < width and 0.0 < camera.matrix[1, 2] < height):
        raise ExoError(f"{who} has its optical centre outside the picture; check that size and matrix belong together")
    if abs(np.linalg.det(camera.rotation) - 1.0) > 1e-3:
        raise ExoError(f"{who} has a rotation that is none (mirrored or scaled); export the calibration again")
    distance = float(np.linalg.norm(camera.centre))
    if distance > FURTHEST_CAMERA_M:
        raise ExoError(f"{who} would stand {distance:.0f} m from the origin; write its translation in metres")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _array(values: Iterable[float]) -> str:
    return f"[ {', '.join(repr(float(value)) for value in values)}]"


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error).splitlines()[0].rstrip(".")
