"""The process that works on one wearer of a batch: `python -m exo_bringup.batch_worker <folder with job.json>`.

Everything it writes goes into that folder; what came of it is in result.json. Lines of its log that begin with
"step: " tell what it is doing.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from exo_bringup.batch import FAILED, JOB, OK, PARTLY, RESULT, STEP
from exo_bringup.batch_folder import Entry, read_wearer
from exo_bringup.norms import load_norms
from exo_bringup.session_analysis import convention_of, forces_of, generic_of
from exo_bringup.wearer_analysis import FOLDER, KIND, WearerSessions, analyse_wearer
from exo_common.artefact import read_manifest, sha256
from exo_common.errors import ExoError

TWIN = "twin"


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
        from exo_twin.inverse.build import build_twin

        inputs = brought.inputs | ({generic.name: generic} if generic is not None else {})
        _step("twin")
        try:
            twin = build_twin(
                found.capture,
                brought.wearer,
                folder / TWIN,
                inputs,
                found.capture.quality.warnings,
                lambda text: _step(f"twin: {text}"),
                convention_of(found.fitted),
                forces_of(found.fitted, found.capture),
                generic_of(found.fitted, generic),
            )
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
    """What the results depend on: recordings, wearer, options."""
    options = [job["twin"], *(None if job[name] is None else sha256(Path(job[name])) for name in ("generic", "norms"))]
    inputs = {name: sha256(path) for name, path in sorted(brought.inputs.items())}
    return hashlib.sha256(json.dumps([repr(brought.wearer), inputs, options]).encode()).hexdigest()


def _step(text: str) -> None:
    print(f"{STEP}{text}", flush=True)


def main() -> int:
    """Work on the job of the folder on the command line."""
    folder = Path(sys.argv[1])
    try:
        result = work(folder)
    except KeyboardInterrupt:
        return 130
    temporary = folder / f".{RESULT}"
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
