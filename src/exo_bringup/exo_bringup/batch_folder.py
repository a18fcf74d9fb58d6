"""Which wearers a folder holds: session folders, and plain folders of marker recordings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from exo_bringup.wearer_analysis import WearerSessions
from exo_capture.marker_files import Recording, Subject, read_recording
from exo_capture.marker_frame import to_opensim, walks
from exo_capture.marker_set import recognise
from exo_common.artefact import MANIFEST
from exo_common.errors import ExoError
from exo_common.session import FILE, MarkerFiles, Session, Wearer, load

SUFFIXES = (".c3d", ".trc")
PREFERRED = ".c3d"  # of files of one name: it holds force plates and the subject, too
STATIC_WORDS = ("static", "stand", "_st", "cal", "neutral")  # in the names of quiet stances, most telling first
SAME_HEIGHT_M, SAME_MASS_KG = 0.05, 5.0  # between files of one person


@dataclasses.dataclass(frozen=True)
class Entry:
    """One wearer to work on: a name unique in the batch, and the folder of the recordings."""

    name: str
    folder: Path

    @property
    def has_session(self) -> bool:
        """Whether a session file says what is what."""
        return (self.folder / FILE).is_file()


def find_wearers(folder: Path, beside: Path | None = None) -> list[Entry]:
    """Every folder in and below `folder` with a session.yaml or, without one, with C3D or TRC files.

    What lies below a session.yaml belongs to it; below files alone there may be more wearers. Hidden folders, what exo
    wrote, and the results' folder `beside` are passed over.

    Raises
    ------
    ExoError : if there is none.
    """
    if not folder.is_dir():
        raise ExoError(f"{folder} is not a folder; give a folder of sessions")
    base = folder.resolve()
    found = list(_search(base, None if beside is None else beside.resolve()))
    if not found:
        raise ExoError(
            f"{folder} holds no {FILE} and no C3D or TRC file, nor does any folder in it; give a folder of sessions"
        )
    entries: dict[str, Entry] = {}
    for own in found:
        wanted = "_".join(own.relative_to(base).parts) or base.name
        others = (f"{wanted}_{number}" for number in itertools.count(2))
        # Results of two wearers must not share a folder, not even where letters' case is ignored.
        name = next(name for name in itertools.chain([wanted], others) if name.casefold() not in entries)
        entries[name.casefold()] = Entry(name, own)
    return list(entries.values())


def read_wearer(entry: Entry) -> WearerSessions:
    """What the wearer of an entry brought.

    Raises
    ------
    ExoError : naming the file and the cure.
    """
    if not entry.has_session:
        return plain_recordings(entry)
    session = load(entry.folder)
    name = Path(session.markers.file).stem if session.markers is not None else session.folder.name
    return WearerSessions(session.wearer, {name: session})


def plain_recordings(entry: Entry) -> WearerSessions:
    """Walks, quiet stance and wearer of a folder without a session file.

    Height and mass come from the files' SUBJECT group. Files that cannot be read count as walks, so that the analysis
    names them with the reason.

    Raises
    ------
    ExoError : if no file tells height and mass, files are of different people, or none is a walk.
    """
    folder = entry.folder
    files, passed_over = _one_of_each(_recordings(folder))
    read: dict[Path, Recording] = {}
    unread: list[str] = []
    for path in files:
        try:
            read[path] = read_recording(path)
        except ExoError as error:
            unread.append(str(error))
    standing = {path for path, recording in read.items() if _stands(recording)}
    moving = [path for path in files if path not in standing]
    if not [path for path in moving if path in read]:
        why = "; ".join(unread) or f"{', '.join(path.name for path in files)} show no steps"
        raise ExoError(f"{folder} holds no walk ({why}); add a walking trial")
    static, notes = _static(sorted(standing), read)
    wearer = _wearer(entry, {path: recording.subject for path, recording in read.items()})
    stance = "" if static is None else static.name
    sessions = {path.stem: Session(folder, wearer, markers=MarkerFiles(path.name, stance)) for path in moving}
    return WearerSessions(wearer, sessions, (*passed_over, *notes))


def _search(folder: Path, beside: Path | None) -> Iterator[Path]:
    if (folder / FILE).is_file() or _recordings(folder):
        yield folder
    if (folder / FILE).is_file():
        return
    for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if below != beside and not (below / MANIFEST).is_file():
            yield from _search(below, beside)


def _recordings(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)


def _one_of_each(files: list[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """One file of every name, C3D before TRC, and what to say about the others."""
    chosen: dict[str, Path] = {}
    notes = []
    for path in sorted(files, key=lambda path: (path.suffix.lower() != PREFERRED, path.name)):
        if path.stem in chosen:
            notes.append(
                f"{path.name} is passed over for {chosen[path.stem].name}, which has the same name; "
                "give it another one if it is another walk"
            )
        else:
            chosen[path.stem] = path
    return sorted(chosen.values()), tuple(notes)


def _stands(recording: Recording) -> bool:
    """Whether a recording with a known marker set shows a quiet stance."""
    try:
        marker_set = recognise(recording.markers.names)
        if any(name not in recording.markers.names for name in marker_set.used()):
            return False
        # Of a wrong unit, refused here, nothing can be said; the analysis names it.
        return not walks(to_opensim(recording, marker_set).markers, marker_set)
    except ExoError:
        return False


def _static(standing: list[Path], read: dict[Path, Recording]) -> tuple[Path | None, tuple[str, ...]]:
    """The quiet stance to place the markers by, and what to say about the choice."""
    if not standing:
        return None, ("there is no static trial; the walk itself scales the model and places the markers",)
    if len(standing) == 1:
        return standing[0], ()

    def order(path: Path) -> tuple[int, float]:
        name = path.stem.lower()
        rank = next((i for i, word in enumerate(STATIC_WORDS) if word in name), len(STATIC_WORDS))
        markers = read[path].markers
        return rank, float(markers.time[-1] - markers.time[0])

    chosen = min(standing, key=order)
    names = ", ".join(path.name for path in standing)
    return chosen, (f"several trials show no steps ({names}); {chosen.name} is taken as the static one",)


def _wearer(entry: Entry, subjects: dict[Path, Subject]) -> Wearer:
    """The person that the files tell of."""
    heights = {path: subject.height for path, subject in subjects.items() if subject.height is not None}
    masses = {path: subject.mass for path, subject in subjects.items() if subject.mass is not None}
    for what, values in (("height", heights), ("mass", masses)):
        if not values:
            raise ExoError(
                f"no file in {entry.folder} tells the wearer's {what} (SUBJECT group); "
                f"write it there, or add a {FILE} with wearer and markers"
            )
    for what, values, limit in (("heights", heights, SAME_HEIGHT_M), ("masses", masses, SAME_MASS_KG)):
        least, most = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        if values[most] - values[least] > limit:
            raise ExoError(
                f"{least.name} and {most.name} tell {what} of {values[least]:g} and {values[most]:g}: "
                "give each wearer a folder, or correct the files"
            )
    sex = next((subject.sex for subject in subjects.values() if subject.sex is not None), "unknown")
    height, mass = float(next(iter(heights.values()))), float(next(iter(masses.values())))
    return Wearer(id=entry.name, height=height, mass=mass, sex=sex)
