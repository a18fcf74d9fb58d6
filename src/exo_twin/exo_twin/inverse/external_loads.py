"""OpenSim's ExternalLoads: an XML file that names columns of a MOT or STO table as forces on bodies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Storage, external_loads_table, read_storage, write_storage
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.plate_signals import PlateSignal

FloatArray = NDArray[np.float64]

AXES = "xyz"
GROUND = ("ground", "/ground", "")
DOCUMENT_VERSION = "40000"
PREFIX = {"calcn_l": "ground_force_l", "calcn_r": "ground_force_r"}  # OpenSim's habit for the columns of feet


def read_external_loads(path: Path, table: Path | None = None) -> tuple[PlateSignal, ...]:
    """Read the forces that an ExternalLoads file describes.

    Parameters
    ----------
    path : the .xml.
    table : the .mot or .sto, where it is not the one the file names.

    Raises
    ------
    ExoError : for a damaged file, a missing column, or a force expressed in a moving body.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise ExoError(f"{path} cannot be read ({error.strerror}); check the file name") from None
    except ElementTree.ParseError as error:
        raise ExoError(f"{path} is not a whole XML file ({error}); export or copy it again") from None
    forces = root.findall(".//ExternalForce")
    if not forces:
        raise ExoError(f"{path} holds no ExternalForce; give OpenSim's ExternalLoads file")
    storage = read_storage(table or _table(path))
    if len(storage.time) < 2 or (np.diff(storage.time) <= 0.0).any():
        raise ExoError(f"the times of {path}'s table do not rise; export it again")
    return tuple(_signal(path, force, storage) for force in forces if _text(force, "appliesForce") != "false")


def write_external_loads(path: Path, time: FloatArray, forces: Sequence[ExternalForce]) -> Path:
    """Write forces as OpenSim reads them: `path` (.xml) and beside it a .mot of the same name, which is returned.

    Parameters
    ----------
    time : (n,) s, of the forces' frames.

    Raises
    ------
    ExoError : if there is no force, or one has another number of frames.
    """
    if not forces:
        raise ExoError(f"{path} would hold no force; give the force on one foot or more")
    if any(len(force) != len(time) for force in forces):
        raise ExoError(f"{path}: the forces and the times have different lengths; resample them first")
    columns: list[str] = []
    document = ElementTree.Element("OpenSimDocument", Version=DOCUMENT_VERSION)
    loads = ElementTree.SubElement(document, "ExternalLoads", name=path.stem)
    objects = ElementTree.SubElement(loads, "objects")
    for force in forces:
        prefix = PREFIX.get(force.body, force.body)
        names = {"force": f"{prefix}_v", "point": f"{prefix}_p", "torque": f"{prefix.replace('force', 'torque')}_m"}
        columns += [name + axis for name in names.values() for axis in AXES]
        item = ElementTree.SubElement(objects, "ExternalForce", name=f"{force.body}_ground")
        ElementTree.SubElement(item, "applied_to_body").text = force.body
        for what in ("force", "point"):
            ElementTree.SubElement(item, f"{what}_expressed_in_body").text = GROUND[0]
        for what, name in names.items():
            ElementTree.SubElement(item, f"{what}_identifier").text = name
    table = path.with_suffix(".mot")
    ElementTree.SubElement(loads, "datafile").text = table.name
    ElementTree.indent(document)
    values = np.hstack([part for force in forces for part in (force.force, force.point, force.free_moment)])
    write_storage(table, Storage(time, tuple(columns), values, in_degrees=False))
    ElementTree.ElementTree(document).write(path, encoding="UTF-8", xml_declaration=True)
    return table


def _table(path: Path) -> Path:
    table = external_loads_table(path)
    if table is None:
        raise ExoError(f"{path} names no table of forces (datafile); give the .mot or .sto beside it")
    return table


def _signal(path: Path, force: ElementTree.Element, storage: Storage) -> PlateSignal:
    name = force.get("name") or "a force"
    for what in ("force", "point"):
        frame = _text(force, f"{what}_expressed_in_body")
        if frame not in GROUND:
            raise ExoError(f"{path}: the {what} of {name} is expressed in {frame}; export it in ground")
    if not _text(force, "force_identifier"):
        raise ExoError(f"{path}: {name} has no force_identifier; name its columns")
    if not _text(force, "point_identifier"):
        raise ExoError(f"{path}: {name} has no point_identifier; a ground reaction needs a centre of pressure")
    torque = _text(force, "torque_identifier")
    vector = _columns(path, storage, _text(force, "force_identifier"))
    return PlateSignal(
        name,
        storage.time,
        vector,
        _columns(path, storage, _text(force, "point_identifier")),
        _columns(path, storage, torque) if torque else np.zeros_like(vector),
        _text(force, "applied_to_body").rpartition("/")[2] or None,
    )


def _columns(path: Path, storage: Storage, identifier: str) -> FloatArray:
    names = [identifier + axis for axis in AXES]
    missing = [name for name in names if name not in storage.columns]
    if missing:
        raise ExoError(f"{path} asks for column {missing[0]}, which its table lacks; export both together")
    return np.column_stack([storage.column(name) for name in names])


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()
