"""Writes muscles into an OpenSim model: calibrated parameters, and a known class where the model's own is unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exo_twin.inverse.models import load_model
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.opensim_runtime import opensim

# Classes whose curves the walker's compiler knows.
KNOWN = ("Millard2012EquilibriumMuscle", "DeGrooteFregly2016Muscle")


def write_muscles(osim: Path, muscles: MuscleModel) -> None:
    """Give a model file's muscles these strengths, optimal fibre lengths and tendon slack lengths."""
    model = opensim.Model(str(osim.resolve()))
    own = model.updMuscles()
    for i, name in enumerate(muscles.names):
        muscle = own.get(name)
        muscle.setMaxIsometricForce(float(muscles.max_isometric_force[i]))
        muscle.setOptimalFiberLength(float(muscles.optimal_fiber_length[i]))
        muscle.setTendonSlackLength(float(muscles.tendon_slack_length[i]))
    model.initSystem()
    model.printToXML(str(osim))


def replace_unknown(osim: Path, into: Path) -> tuple[Path, list[str]]:
    """A generic model whose muscles are all of a class in KNOWN, and a sentence on those replaced.

    A muscle of another class keeps its path, strength, fibre and tendon and gets the curves of
    DeGrooteFregly2016Muscle. To be done before scaling: not every class scales its fibre and tendon.

    Parameters
    ----------
    into : file for the changed model.

    Returns
    -------
    The file to use: `osim` itself where nothing had to be replaced.

    Raises
    ------
    ExoError : if the file is missing or no model.
    """
    model = load_model(osim)
    own = model.getMuscles()
    foreign = [own.get(i) for i in range(own.getSize()) if own.get(i).getConcreteClassName() not in KNOWN]
    if not foreign:
        return osim, []
    told = [(muscle.getName(), muscle.getConcreteClassName()) for muscle in foreign]
    stand_ins = [_stand_in(muscle) for muscle in foreign]
    forces = model.updForceSet()
    for stand_in in stand_ins:
        forces.remove(forces.getIndex(stand_in.getName()))
        model.addForce(stand_in)
    model.finalizeConnections()
    model.printToXML(str(into))
    names, classes = ", ".join(name for name, _ in told), ", ".join(dict.fromkeys(kind for _, kind in told))
    return into, [
        f"{names}: curves of class {classes} are not known here; the same muscles with those of "
        "DeGrooteFregly2016Muscle stand in for them"
    ]


def _stand_in(muscle: Any) -> Any:
    new = opensim.DeGrooteFregly2016Muscle()
    new.setName(muscle.getName())
    new.set_path(muscle.getGeometryPath())
    new.setMaxIsometricForce(muscle.getMaxIsometricForce())
    new.setOptimalFiberLength(muscle.getOptimalFiberLength())
    new.setTendonSlackLength(muscle.getTendonSlackLength())
    new.setPennationAngleAtOptimalFiberLength(muscle.getPennationAngleAtOptimalFiberLength())
    new.setMaxContractionVelocity(muscle.getMaxContractionVelocity())
    return new
