"""OpenSim's text tables: TRC marker files, MOT and STO storages.

Written and read without the opensim module, so that live nodes and light
tools can use them. Times in s, positions in m inside (TRC units are converted).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

UNITS_TO_M = {"m": 1.0, "mm": 1e-3, "cm": 1e-2}


@dataclasses.dataclass(frozen=True)
class Markers:
    """Marker trajectories.

    Attributes
    ----------
    time : (n,) s.
    names : the k marker names.
    position : (n, k, 3) m, in OpenSim's y-up frame; NaN where a marker is missing.
    confidence : (n, k) 0..1, how far to trust each sample; None where the source does not say.
    """

    time: NDArray[np.float64]
    names: tuple[str, ...]
    position: NDArray[np.float64]
    confidence: NDArray[np.float64] | None = None

    @property
    def rate_hz(self) -> float:
        """Mean sampling rate."""
        return float((len(self.time) - 1) / (self.time[-1] - self.time[0]))


@dataclasses.dataclass(frozen=True)
class Storage:
    """A time table as in MOT and STO files: `values` is (n, columns), in file units."""

    time: NDArray[np.float64]
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    in_degrees: bool

    def column(self, name: str) -> NDArray[np.float64]:
        """One column, (n,)."""
        if name not in self.columns:
            raise ExoError(f"column '{name}' is missing; the table has {', '.join(self.columns[:12])} ...")
        return self.values[:, self.columns.index(name)]


def write_trc(path: Path, markers: Markers) -> None:
    """Write markers as a TRC file in m; missing samples become empty cells."""
    n, k, _ = markers.position.shape
    rate = markers.rate_hz
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate:.6f}\t{rate:.6f}\t{n}\t{k}\tm\t{rate:.6f}\t1\t{n}",
        "Frame#\tTime\t" + "\t\t\t".join(markers.names) + "\t\t",
        "\t\t" + "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, k + 1)),
        "",
    ]
    for i in range(n):
        cells = ["" if np.isnan(v) else f"{v:.6f}" for v in markers.position[i].ravel()]
        lines.append(f"{i + 1}\t{markers.time[i]:.6f}\t" + "\t".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_trc(path: Path) -> Markers:
    """Read a TRC file.

    Raises
    ------
    ExoError : if the file is missing, truncated, or its units are unknown.
    """
    lines = _lines(path)
    try:
        header = dict(zip(lines[1].split(), lines[2].split(), strict=False))
        names = tuple(name.strip() for name in lines[3].split("\t")[2:] if name.strip())
        units, frames = header["Units"], int(header["NumFrames"])
    except (IndexError, KeyError, ValueError):
        raise ExoError(f"{path} is not a TRC file (its header is damaged); export it again") from None
    if units not in UNITS_TO_M:
        raise ExoError(f"{path} has units '{units}'; a TRC file must be in m, cm or mm")
    width = 2 + 3 * len(names)
    table = []
    for line in lines[5:]:
        if line.strip():
            cells = (line.rstrip("\n").split("\t") + [""] * width)[:width]
            table.append([float(c) if c.strip() else np.nan for c in cells])
    if len(table) < frames or len(table) < 2:
        raise ExoError(f"{path} is truncated: {len(table)} of {frames} frames are there; copy it again")
    data = np.array(table)
    position = data[:, 2:].reshape(len(data), len(names), 3) * UNITS_TO_M[units]
    return Markers(data[:, 1], names, position)


def write_storage(path: Path, table: Storage) -> None:
    """Write a MOT or STO file."""
    lines = [
        path.stem,
        "version=1",
        f"nRows={len(table.time)}",
        f"nColumns={len(table.columns) + 1}",
        f"inDegrees={'yes' if table.in_degrees else 'no'}",
        "endheader",
        "\t".join(("time", *table.columns)),
    ]
    lines += ["\t".join(f"{v:.8g}" for v in (t, *row)) for t, row in zip(table.time, table.values, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_storage(path: Path) -> Storage:
    """Read a MOT or STO file.

    Raises
    ------
    ExoError : if the file is missing, has no header or is truncated.
    """
    lines = _lines(path)
    try:
        end = next(i for i, line in enumerate(lines) if line.strip().lower() == "endheader")
        header = dict(line.split("=", 1) for line in lines[:end] if "=" in line)
        columns = tuple(lines[end + 1].split()[1:])
        data = np.array([[float(x) for x in line.split()] for line in lines[end + 2 :] if line.strip()])
        if data.ndim != 2 or data.shape[1] != len(columns) + 1:
            raise ValueError
    except (StopIteration, ValueError, IndexError):
        raise ExoError(f"{path} is not a complete MOT or STO file; export or copy it again") from None
    degrees = next((v for k, v in header.items() if k.strip().lower() == "indegrees"), "no")
    return Storage(data[:, 0], columns, data[:, 1:], degrees.strip().lower() == "yes")


def external_loads_table(path: Path) -> Path | None:
    """The table of forces that an ExternalLoads file names, whether it exists or not; None where none is named.

    Windows paths are written with backslashes; a table whose path does not exist is looked for beside the file.

    Raises
    ------
    ExoError : if the file cannot be read.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise ExoError(f"{path} cannot be read ({error.strerror}); check the file name") from None
    except ElementTree.ParseError as error:
        raise ExoError(f"{path} is not a whole XML file ({error}); export or copy it again") from None
    name = (root.findtext(".//ExternalLoads/datafile") or root.findtext(".//datafile") or "").strip()
    if not name:
        return None
    plain = Path(name.replace("\\", "/"))
    return plain if plain.is_absolute() and plain.is_file() else path.parent / plain.name


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ExoError(f"{path} cannot be read ({error.strerror}); check the file name") from None
    except UnicodeDecodeError:
        raise ExoError(f"{path} is not a text file; give a TRC, MOT or STO file") from None
