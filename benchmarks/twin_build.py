"""Bench muscles: how long a session of ten seconds takes to become a complete twin.

Ten seconds are walking_3d's one stride with both feet on plates, repeated: markers, ground reaction and
EMG envelopes, each stride a stride's length further on, what does not close spread evenly over the stride. Everything
is timed, from reading the session to the last file of the twin, with a cache of muscle paths that is empty.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_bringup.session_analysis import convention_of, forces_of, generic_of
from exo_bringup.walk_emg import use_emg
from exo_capture.marker_capture import capture_markers
from exo_capture.session_capture import capture_session, session_inputs
from exo_common.opensim_files import Markers, Storage, read_storage, write_storage, write_trc
from exo_common.session import Session, load
from exo_twin.inverse.build import build_twin
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.external_loads import read_external_loads, write_external_loads

FloatArray = NDArray[np.float64]

SECONDS, RATE_HZ = 10.0, 100.0
ON_PLATES_S = 0.45  # for a stride from here both feet are on plates or in the air
MUSCLES = {
    "soleus": "soleus_r",
    "gastrocnemius": "gastrocnemius_medialis_r",
    "tibialis_anterior": "tibialis_anterior_r",
    "medial_hamstrings": "semitendinosus_r",
    "biceps_femoris": "biceps_femoris_r",
    "vastus_lateralis": "vastus_lateralis_r",
    "vastus_medius": "vastus_medialis_r",
    "rectus_femoris": "rectus_femoris_r",
    "gluteus_maximus": "gluteus_maximus_r",
    "gluteus_medius": "gluteus_medius_r",
}


def measure(data: Path, generic: Path) -> dict[str, float]:
    """Wall times in s: twin_build_s, and twin_rebuild_s of the same session with its muscle paths in the cache.

    Parameters
    ----------
    data : with walking_3d.
    generic : unscaled model of skin markers.
    """
    home = os.environ.get("EXO_HOME")
    with tempfile.TemporaryDirectory(prefix="exo_bench_") as scratch:
        session = ten_seconds(data / "walking_3d", generic, Path(scratch))
        os.environ["EXO_HOME"] = scratch
        try:
            return {"twin_build_s": _build_s(session), "twin_rebuild_s": _build_s(session)}
        finally:
            if home is None:
                del os.environ["EXO_HOME"]
            else:
                os.environ["EXO_HOME"] = home


def ten_seconds(folder: Path, generic: Path, out: Path) -> Session:
    """Write a session of repeated strides into `out`."""
    capture = capture_markers(folder / "markers_walk.trc")
    duration = float(np.mean([stride.duration for stride in capture.strides]))
    ends = (ON_PLATES_S, ON_PLATES_S + duration)
    at = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    turn, share = np.divmod(at / duration, 1.0)
    once = ON_PLATES_S + share * duration
    markers = capture.recording.markers
    pelvis = capture.keypoints.position[:, capture.keypoints.names.index("RHip"), 0]
    ahead = np.array([np.ptp(np.interp(ends, markers.time, pelvis)), 0.0, 0.0])
    onward = turn[:, None] * ahead
    places = [_closed(markers, i, ends, once, share, ahead) + onward for i in range(len(markers.names))]
    write_trc(out / "walk.trc", Markers(at, markers.names, np.stack(places, axis=1)))
    forces = []
    for plate in read_external_loads(folder / "grf_walk.xml"):
        force, point, free = (
            np.column_stack([np.interp(once, plate.time, column) for column in values.T])
            for values in (plate.force, plate.point, plate.free_moment)
        )
        forces.append(ExternalForce(plate.body or plate.name, force, point + onward, free))
    write_external_loads(out / "plates.xml", at, forces)
    emg = read_storage(folder / "electromyography.sto")
    envelope = np.column_stack([np.interp(once, emg.time, column) for column in emg.values.T])
    write_storage(out / "emg.sto", Storage(at, emg.columns, envelope, in_degrees=False))
    names = ", ".join(f"{label}: {muscle}" for label, muscle in MUSCLES.items())
    (out / "session.yaml").write_text(
        "wearer: {id: ten_seconds, height: 1.80, mass: 85.0, sex: male}\n"
        f"markers: {{file: walk.trc, forces: plates.xml, model: {generic.resolve()}}}\n"
        f"emg: {{file: emg.sto, sync: {{method: offset, uncertainty: 0.001, offset: 0.0}}, muscles: {{{names}}}}}\n",
        encoding="utf-8",
    )
    return load(out)


def _closed(
    markers: Markers, marker: int, ends: tuple[float, float], once: FloatArray, share: FloatArray, ahead: FloatArray
) -> FloatArray:
    """One marker (n, 3) m through the stride, its end a stride's length ahead of its beginning."""
    path = markers.position[:, marker]
    start, end = (np.array([np.interp(t, markers.time, column) for column in path.T]) for t in ends)
    moved = np.column_stack([np.interp(once, markers.time, column) for column in path.T])
    return np.asarray(moved - share[:, None] * (end - start - ahead))


def _build_s(session: Session) -> float:
    began = time.perf_counter()
    capture = capture_session(session)
    build_twin(
        capture,
        session.wearer,
        session.folder / "twin",
        session_inputs(session),
        capture.quality.warnings,
        convention=convention_of(session),
        signals=forces_of(session, capture),
        generic=generic_of(session),
        emg=use_emg(session, capture).muscles,
    )
    return time.perf_counter() - began
