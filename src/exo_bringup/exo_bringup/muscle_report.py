"""A page on a twin's muscles, from the twin's own files: activations, reserves, EMG, calibration, tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from exo_bringup import muscle_figures
from exo_bringup.report import render
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import read_storage
from exo_common.session import Wearer
from exo_twin.calibration import TwinCalibration
from exo_twin.inverse.tolerance import Tolerance
from exo_twin.inverse.walk_muscles import ACTIVATIONS, MEASURED
from exo_twin.twin import Twin

MUSCLE_PAGE = "muscles.html"


def write_muscle_page(twin: Path, path: Path, wearer: Wearer) -> None:
    """Write the page, one self-contained HTML file.

    Raises
    ------
    ExoError : if the twin is damaged or the file cannot be written.
    """
    own = Twin.load(twin, wearer.id)
    quality: dict[str, Any] = yaml.safe_load((twin / "quality.yaml").read_text(encoding="utf-8"))
    figure = ""
    if (twin / ACTIVATIONS).exists():
        emg = read_storage(twin / MEASURED) if (twin / MEASURED).exists() else None
        figure = muscle_figures.activations(read_storage(twin / ACTIVATIONS), emg, own.gait.strides)
    page = render(
        "muscles.html.j2",
        wearer=wearer,
        warnings=own.warnings,
        strides={side: sum(stride["side"] == side for stride in own.gait.strides) for side in SIDES},
        calibration=TwinCalibration.of_twin(twin, wearer.id),
        quality=quality["muscles"],
        loads=quality["loads"],
        activations=figure,
        tolerance=muscle_figures.tolerance(Tolerance.from_arrays(own.model), own.gait),
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ExoError(f"{path} could not be written ({error.strerror}); free disk space") from error
