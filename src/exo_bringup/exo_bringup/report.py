"""The report: one self-contained HTML file, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from exo_bringup import figures
from exo_bringup.analysis import Recording
from exo_bringup.emg_section import EmgWalk
from exo_common.errors import ExoError
from exo_common.session import Wearer
from exo_twin.twin import Gait


@dataclasses.dataclass(frozen=True)
class Contents:
    """All a report shows."""

    wearer: Wearer
    verdict: str
    pictures: Sequence[bytes]
    gait: Gait
    recording: Recording
    figures: Mapping[str, Any]
    warnings: Sequence[str]
    stage_seconds: Mapping[str, float]
    emg: EmgWalk | None = None


def write_report(path: Path, contents: Contents) -> None:
    """Write the report.

    Raises
    ------
    ExoError : if the file cannot be written.
    """
    page = render(
        "report.html.j2",
        c=contents,
        emg=contents.emg,
        emg_profiles=figures.emg_profiles(contents.emg) if contents.emg else "",
        pictures=[base64.b64encode(picture).decode() for picture in contents.pictures],
        joint_angles=figures.joint_angles(contents.gait, contents.recording),
        assistance=figures.assistance(contents.recording),
        timeline=figures.timeline(contents.recording.signals),
        stage_times=figures.stage_times(contents.stage_seconds),
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ExoError(f"{path} could not be written ({error.strerror}); free disk space") from error


def emg_page(walk: EmgWalk, wearer: Wearer) -> str:
    """A page of the EMG alone, for a session whose live run is still to come."""
    return render("emg.html.j2", wearer=wearer, emg=walk, emg_profiles=figures.emg_profiles(walk))


def render(template: str, **values: Any) -> str:
    """A page of this package's templates."""
    environment = Environment(
        loader=PackageLoader("exo_bringup"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
