"""The process that works on one wearer of a batch: `python -m exo_bringup.batch_worker <folder with job.json>`.

Everything it writes goes into that folder, its scratch files, too; what came of it is in result.json. Lines of its log
that begin with "step: " tell what it is doing.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from exo_bringup.batch import FAILED, JOB, OK, PARTLY, RESULT, STEP
from exo_bringup.batch_folder import Entry, read_wearer
from exo_bringup.muscle_report import MUSCLE_PAGE, write_muscle_page
from exo_bringup.norms import load_norms
from exo_bringup.session_analysis import convention_of, forces_of, generic_of
from exo_bringup.walk_emg import own_emg, use_emg
from exo_bringup.wearer_analysis import FOLDER, KIND, WearerSessions, analyse_wearer
from exo_common.artefact import SOFTWARE, read_manifest, sha256
from exo_common.errors import ExoError

TWIN = "twin"
SCRATCH = ".scratch"
PACKAGES = ("exo_bringup", "exo_capture", "exo_common", "exo_emg", "exo_twin")  # that results come from


def work(folder: Path) -> dict[str, Any]:
    """Do the job that `folder` holds, or keep what an earlier run finished; returns the result."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    started = time.monotonic()
    result: dict[str, Any] = {"wearer": job["name"], "status": FAILED, "reason": "", "seconds": 0.0, "kept": False}
    result |= {"walks": [], "warnings": []}
    try:
        brought = read_wearer(Entry(job["name"], Path(job["recordings"])))
        result["key"] = _key(job, brought)
        kept = _finished(folder, result["key"], job["twin"])
        if kept is not None:
            return kept | {"kept": True}
        (folder / RESULT).unlink(missing_ok=True)
        _analyse(job, brought, folder, result)
    except ExoError as error:
        result["reason"] = str(error)
    except Exception as error:  # the other wearers go on
        traceback.print_exc()
        result["reason"] = f"a defect of exo ({type(error).__name__}: {error}); please report it with the log"
    result["seconds"] = round(time.monotonic() - started, 1)
    return result


def _analyse(job: dict[str, Any], brought: WearerSessions, folder: Path, result: dict[str, Any]) -> None:
    """Inverse analysis and twin of one wearer; fills the result as they are finished."""
    generic = None if job["generic"] is None else Path(job["generic"])
    norms = None if job["norms"] is None else load_norms(Path(job["norms"]))
    found = analyse_wearer(brought, folder, generic, norms, _step)
    walks = found.summary["walks"]
    failed = [f"{walk['walk']}: {walk['reason']}" for walk in walks if walk["status"] != OK]
    result |= {"walks": walks, "warnings": found.summary["warnings"], "reason": "; ".join(failed)}
    if job["twin"]:
        from exo_twin.inverse.build import FurtherWalk, build_twin

        inputs = brought.inputs | ({generic.name: generic} if generic is not None else {})
        _step("EMG")
        emg = use_emg(own_emg(found.fitted), found.capture)
        further = [
            FurtherWalk(capture, own, forces_of(session, capture))
            for session, capture in found.others
            if (own := use_emg(own_emg(session), capture).muscles) is not None
        ]
        _step("twin")
        try:
            twin = build_twin(
                found.capture,
                brought.wearer,
                folder / TWIN,
                inputs,
                [*found.capture.quality.warnings, *emg.warnings],
                lambda text: _step(f"twin: {text}"),
                convention_of(found.fitted),
                forces_of(found.fitted, found.capture),
                generic_of(found.fitted, generic),
                emg.muscles,
                further,
            )
            write_muscle_page(twin, folder / MUSCLE_PAGE, brought.wearer)
        except ExoError as error:
            result["reason"] = "; ".join([*failed, f"twin: {error}"])
            result["status"] = PARTLY
            return
        result["warnings"] = list(dict.fromkeys([*result["warnings"], *read_manifest(twin, TWIN)["warnings"]]))
    result["status"] = PARTLY if failed else OK


def _finished(folder: Path, key: str, twin: bool) -> dict[str, Any] | None:
    """The result of an earlier run if it is of the same job, without a failure, and all its files are whole."""
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["status"] != OK or result["key"] != key:
            return None
        read_manifest(folder / FOLDER, KIND)
        if twin:
            read_manifest(folder / TWIN, TWIN)
    except (OSError, ValueError, KeyError, ExoError):
        return None
    return dict(result)


def _key(job: dict[str, Any], brought: WearerSessions) -> str:
    """What the results depend on: recordings, wearer, options, and what computes them."""
    options = [job["twin"], *(None if job[name] is None else sha256(Path(job[name])) for name in ("generic", "norms"))]
    inputs = {name: sha256(path) for name, path in sorted(brought.inputs.items())}
    return hashlib.sha256(json.dumps([repr(brought.wearer), inputs, options, results_version()]).encode()).hexdigest()


@functools.cache
def results_version() -> str:
    """Digest of exo's own sources and data, and of the versions of the libraries that compute."""
    whole = hashlib.sha256()
    for package in PACKAGES:
        found = find_spec(package)
        assert found is not None and found.origin is not None
        base = Path(found.origin).resolve().parent
        for path in sorted(path for path in base.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            whole.update(f"{package}/{path.relative_to(base)} {sha256(path)}\n".encode())
    installed = {found.name.lower(): found.version for found in importlib.metadata.distributions()}
    whole.update(json.dumps([installed.get(name) for name in SOFTWARE]).encode())
    return whole.hexdigest()


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """All temporary files go into the job's folder; those of an earlier run that was killed are removed."""
    for name in (SCRATCH, f".{FOLDER}.*", f".{TWIN}.*"):
        for left in folder.glob(name):
            shutil.rmtree(left, ignore_errors=True)
    own, before = folder / SCRATCH, tempfile.tempdir
    own.mkdir()
    tempfile.tempdir = str(own)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(own, ignore_errors=True)


def _step(text: str) -> None:
    print(f"{STEP}{text}", flush=True)


def main() -> int:
    """Work on the job of the folder on the command line."""
    folder = Path(sys.argv[1])
    try:
        with _scratch(folder):
            result = work(folder)
    except KeyboardInterrupt:
        return 130
    temporary = folder / f".{RESULT}"
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
