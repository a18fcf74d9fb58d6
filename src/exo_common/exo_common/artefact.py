"""Artefacts: plain folders with a manifest, written whole or not at all.

`manifest.yaml` holds kind, schema version, wearer, the SHA-256 of every input
and output file, the software versions and the warnings of the run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from exo_common.errors import ExoError

MANIFEST = "manifest.yaml"
SCHEMA_VERSION = 1
SOFTWARE = ("mediapipe", "mujoco", "numpy", "opensim", "pose2sim", "scipy")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_dir():
        whole = hashlib.sha256()
        for item in sorted(item for item in path.rglob("*") if item.is_file()):
            whole.update(f"{item.relative_to(path)}\0{sha256(item)}\n".encode())
        return whole.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(
    folder: Path,
    kind: str,
    wearer: str,
    inputs: Mapping[str, Path],
    warnings: list[str],
    unlisted: Collection[str] = (),
) -> Iterator[Path]:
    """Write an artefact: yields a scratch folder that replaces `folder` only if all went well.

    An interrupted or failed run leaves the earlier artefact untouched. `warnings`
    may grow while the artefact is written. A file of an earlier artefact is
    kept beside it as `<folder>.previous`. Files named in `unlisted` may change
    later: the manifest does not vouch for them.

    Raises
    ------
    ExoError : when the disk is full or the place cannot be written.
    """
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        scratch.chmod(0o755)
        yield scratch
        manifest = {
            "kind": kind,
            "schema_version": SCHEMA_VERSION,
            "wearer": wearer,
            "inputs": {name: sha256(path) for name, path in sorted(inputs.items())},
            "files": {name: sha256(scratch / name) for name in _files(scratch) if name not in unlisted},
            "software": _versions(),
            "warnings": list(warnings),
        }
        (scratch / MANIFEST).write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
        previous = folder.with_name(f"{folder.name}.previous")
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.replace(previous)
        scratch.replace(folder)
    except OSError as error:
        raise ExoError(
            f"{folder} could not be written ({error.strerror}); free disk space or choose another folder"
        ) from error
    finally:
        if scratch is not None and scratch.exists():
            shutil.rmtree(scratch, ignore_errors=True)


def read_manifest(folder: Path, kind: str, wearer: str | None = None) -> dict[str, Any]:
    """Read and verify an artefact's manifest.

    Raises
    ------
    ExoError : if the folder is no artefact of this kind, its schema or wearer
        does not match, or a file is missing or was changed after writing.
    """
    path = folder / MANIFEST
    try:
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ExoError(f"{folder} holds no {kind} (no {MANIFEST}); make one with ./exo personalise <session>") from None
    except yaml.YAMLError:
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise ExoError(f"{path} does not describe a {kind}; give the folder of a {kind}")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise ExoError(
            f"{path} has schema version {manifest.get('schema_version')}, this software reads {SCHEMA_VERSION}; "
            "make it again with ./exo personalise <session>"
        )
    if wearer is not None and manifest.get("wearer") != wearer:
        raise ExoError(
            f"{path} belongs to wearer '{manifest.get('wearer')}', not '{wearer}'; use artefacts of one wearer together"
        )
    for name, digest in manifest.get("files", {}).items():
        file = folder / name
        if not file.is_file() or sha256(file) != digest:
            raise ExoError(
                f"{file} is missing or was changed after the {kind} was written; "
                "make it again with ./exo personalise <session>"
            )
    return manifest


def _files(folder: Path) -> list[str]:
    return [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()]


def _versions() -> dict[str, str]:
    versions = {}
    for name in SOFTWARE:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
