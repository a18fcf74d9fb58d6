"""The compiler's face: a scaled OpenSim model in, walker.xml and model.npz out, with the agreement measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_twin.forward.compiler.agreement import Agreement, measure_agreement
from exo_twin.forward.compiler.exoskeleton import HipExoskeleton
from exo_twin.forward.compiler.force_fit import fit_curves
from exo_twin.forward.compiler.groups import GroupSamples, sample_groups
from exo_twin.forward.compiler.mjcf import SEGMENT_BELOW, WalkerOptions, write_mjcf
from exo_twin.forward.compiler.path_fit import PathPolynomial, fit_path
from exo_twin.forward.compiler.skeleton import SEGMENTS, Skeleton, read_skeleton
from exo_twin.forward.compiler.tendon_fit import TURN, Chain, Tendon, fit_tendon
from exo_twin.opensim_runtime import opensim
from exo_twin.planar_muscles import MUSCLES, PlanarMuscles

FloatArray = NDArray[np.float64]
Progress = Callable[[str], None]

# Fitted numbers of the left leg serve the right one when both were sampled alike to this, m.
SAME_PATH = 1e-5


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled walker.

    Attributes
    ----------
    xml : MJCF text.
    arrays : what model.npz holds.
    agreement : measured on held-out poses.
    """

    xml: str
    arrays: dict[str, NDArray[Any]]
    agreement: Agreement

    def save(self, folder: Path) -> None:
        """Write `walker.xml` and `model.npz` into a folder."""
        (folder / "walker.xml").write_text(self.xml, encoding="utf-8")
        np.savez_compressed(folder / "model.npz", allow_pickle=False, **self.arrays)


def compile_walker(
    osim: Path,
    height: float,
    posture: Mapping[str, float] | None = None,
    exoskeleton: HipExoskeleton | None = None,
    options: WalkerOptions | None = None,
    progress: Progress = lambda _: None,
) -> Compiled:
    """Compile a scaled full-body OpenSim model (40 muscles per leg) into a planar walker.

    Parameters
    ----------
    osim : the scaled model.
    height : of the wearer, m; stored, not used.
    posture : upper-body coordinates, rad, at which the torso is frozen; default the model's.

    Raises
    ------
    ExoError : if the model cannot be read, lacks a body or muscle, or MuJoCo refuses the result.
    """
    exoskeleton, options = exoskeleton or HipExoskeleton(), options or WalkerOptions()
    try:
        model = opensim.Model(str(osim.resolve()))
        state = model.initSystem()
    except RuntimeError as error:
        raise ExoError(f"{osim} is not a readable OpenSim model ({_first_line(error)}); scale it again") from None
    skeleton = read_skeleton(model, state, posture)
    progress("sampling muscle paths")
    samples = sample_groups(model, state)
    progress("fitting tendons and muscle curves")
    paths = {name: fit_path(group) for name, group in samples.items()}
    tendons = _fit_tendons(skeleton, samples, paths)
    curves = {name: fit_curves(group) for name, group in samples.items()}
    xml = write_mjcf(osim.stem, skeleton, tendons, curves, exoskeleton, options)
    muscles = _planar_muscles(samples, paths, curves)
    try:
        walker = mujoco.MjModel.from_xml_string(xml)
    except ValueError as error:
        raise ExoError(f"MuJoCo refuses the walker compiled from {osim} ({_first_line(error)})") from None
    agreement = measure_agreement(walker, muscles, samples, {n: t.offset for n, t in tendons.items()})
    return Compiled(xml, _arrays(skeleton, muscles, height, exoskeleton), agreement)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _chain(skeleton: Skeleton, coordinates: tuple[str, ...]) -> Chain:
    joints = [name[:-2] for name in coordinates]
    link = np.zeros(2)
    if len(joints) == 2:
        link = skeleton.segments[SEGMENT_BELOW[joints[1]] + coordinates[1][-2:]].position[[0, 2]]
    return Chain(np.array([TURN[joint] for joint in joints]), link)


def _fit_tendons(
    skeleton: Skeleton, samples: Mapping[str, GroupSamples], paths: Mapping[str, PathPolynomial]
) -> dict[str, Tendon]:
    """Tendons of all muscles; a right one repeats the left one's sites where the paths are mirror images."""
    tendons: dict[str, Tendon] = {}
    for name, group in samples.items():
        mirror = f"{name[:-2]}_l"
        alike = mirror in tendons and np.allclose(group.length, samples[mirror].length, rtol=0.0, atol=SAME_PATH)
        chain = _chain(skeleton, group.coordinates)
        if alike and np.allclose(chain.link, _chain(skeleton, samples[mirror].coordinates).link, atol=SAME_PATH):
            tendons[name] = tendons[mirror]
        else:
            tendons[name] = fit_tendon(chain, paths[name], group.ranges)
    return tendons


def _planar_muscles(
    samples: Mapping[str, GroupSamples], paths: Mapping[str, PathPolynomial], curves: Mapping[str, FloatArray]
) -> PlanarMuscles:
    crossed = [[LEG_COORDINATES.index(c) for c in samples[name].coordinates] for name in MUSCLES]
    return PlanarMuscles(
        MUSCLES,
        np.array([samples[name].max_isometric_force for name in MUSCLES]),
        np.array([[own[0], own[-1]] for own in crossed]),
        np.array([paths[name].centre for name in MUSCLES]),
        np.array([paths[name].half_range for name in MUSCLES]),
        np.array([paths[name].coefficients for name in MUSCLES]),
        np.array([curves[name] for name in MUSCLES]),
    )


def _arrays(
    skeleton: Skeleton, muscles: PlanarMuscles, height: float, exoskeleton: HipExoskeleton
) -> dict[str, NDArray[Any]]:
    segments = [skeleton.segments[name] for name in SEGMENTS]
    parents = [-1 if s.parent is None else SEGMENTS.index(s.parent) for s in segments]
    return {
        **muscles.arrays(),
        "mass": np.array(skeleton.mass),
        "height": np.array(height),
        "exo_mass": np.array(exoskeleton.mass),
        "exo_torque_max": np.array(exoskeleton.torque_max),
        "coordinates": np.array(LEG_COORDINATES),
        "joint_range": np.array([skeleton.ranges[name] for name in LEG_COORDINATES]),
        "segments": np.array(SEGMENTS),
        "segment_parent": np.array(parents),
        "segment_position": np.array([s.position for s in segments]),
        "segment_mass": np.array([s.mass for s in segments]),
        "segment_com": np.array([s.centre_of_mass for s in segments]),
        "segment_inertia": np.array([s.inertia for s in segments]),
        "sole": np.array([skeleton.heel, skeleton.ball, skeleton.toe]),
    }
