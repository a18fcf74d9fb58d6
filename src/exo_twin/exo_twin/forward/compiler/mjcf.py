"""The walker as MJCF text: skeleton, tendons, muscles, exoskeleton, sensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import SIDES
from exo_twin.forward.compiler.exoskeleton import HipExoskeleton, box_inertia
from exo_twin.forward.compiler.skeleton import Segment, Skeleton
from exo_twin.forward.compiler.tendon_fit import Tendon
from exo_twin.planar_muscles import MEMBERS, MUSCLES

FloatArray = NDArray[np.float64]

# Joint and the segment below it; hinge axes make flexion and dorsiflexion positive.
JOINTS = {"thigh": ("hip_flexion", (0, -1, 0)), "shank": ("knee_angle", (0, 1, 0)), "foot": ("ankle_angle", (0, -1, 0))}
SEGMENT_ABOVE = {"hip_flexion": "pelvis", "knee_angle": "thigh", "ankle_angle": "shank"}
SEGMENT_BELOW = {"hip_flexion": "thigh", "knee_angle": "shank", "ankle_angle": "foot"}
# Two points of MuJoCo's muscle length scale, optimal lengths; any two define the same line.
OPERATING_RANGE = (0.5, 1.5)
ACTIVATION_TIMES = (0.01, 0.04)  # s, activation and deactivation (Millard et al. 2013)
SEGMENT_RADIUS = {"pelvis": 0.07, "torso": 0.09, "thigh": 0.055, "shank": 0.04, "foot": 0.025}  # m, drawing only


@dataclasses.dataclass(frozen=True)
class WalkerOptions:
    """How the walker is written.

    Attributes
    ----------
    timestep : s.
    joint_damping : Nm s/rad of every leg joint, soft tissue; small beside the muscles.
    ground_contact : whether soles and floor collide. Off where the ground reaction is applied as a force.
    sole_radius : m, of the contact spheres.
    """

    timestep: float = 1e-3
    joint_damping: float = 0.5
    ground_contact: bool = False
    sole_radius: float = 0.02


def write_mjcf(
    name: str,
    skeleton: Skeleton,
    tendons: Mapping[str, Tendon],
    curves: Mapping[str, FloatArray],
    exoskeleton: HipExoskeleton,
    options: WalkerOptions,
) -> str:
    """MJCF text of the walker.

    Parameters
    ----------
    tendons, curves : per muscle (18): fitted strands and planar_muscles.CURVE_COLUMNS.
    """
    root = ElementTree.Element("mujoco", model=name)
    compiler = ElementTree.SubElement(root, "compiler", angle="radian", inertiafromgeom="false", autolimits="true")
    ElementTree.SubElement(compiler, "lengthrange", mode="none")
    option = ElementTree.SubElement(root, "option", timestep=_text(options.timestep), integrator="implicitfast")
    if not options.ground_contact:
        ElementTree.SubElement(option, "flag", contact="disable")
    default = ElementTree.SubElement(root, "default")
    contact = "1" if options.ground_contact else "0"
    ElementTree.SubElement(default, "geom", contype="0", conaffinity="0", rgba="0.75 0.75 0.8 1")
    sole = ElementTree.SubElement(default, "default", {"class": "sole"})
    ElementTree.SubElement(
        sole,
        "geom",
        type="sphere",
        size=_text(options.sole_radius),
        contype=contact,
        conaffinity=contact,
        friction="0.9",
        rgba="0.3 0.3 0.35 1",
    )
    world = ElementTree.SubElement(root, "worldbody")
    ElementTree.SubElement(world, "light", pos="0 -3 4", dir="0 0.6 -0.8")
    ElementTree.SubElement(
        world,
        "geom",
        name="floor",
        type="plane",
        size="0 0 1",
        contype=contact,
        conaffinity=contact,
        rgba="0.9 0.92 0.9 1",
    )
    bodies = _bodies(world, skeleton, options)
    _wear(bodies, skeleton, exoskeleton)
    _muscles(root, bodies, skeleton, tendons, curves)
    actuator = root.find("actuator")
    assert actuator is not None
    for side in SIDES:
        limit = exoskeleton.torque_max
        ElementTree.SubElement(
            actuator,
            "motor",
            name=f"hip_exo_{side}",
            joint=f"hip_flexion_{side}",
            gear="1",
            ctrlrange=_text(-limit, limit),
            forcerange=_text(-limit, limit),
        )
    _sensors(root)
    _keyframe(root, skeleton)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _text(*values: float) -> str:
    return " ".join(f"{float(v):.8g}" for v in values)


def _bodies(world: ElementTree.Element, skeleton: Skeleton, options: WalkerOptions) -> dict[str, ElementTree.Element]:
    bodies: dict[str, ElementTree.Element] = {}
    for segment in skeleton.segments.values():
        parent = world if segment.parent is None else bodies[segment.parent]
        body = ElementTree.SubElement(parent, "body", name=segment.name, pos=_text(*segment.position))
        bodies[segment.name] = body
        part, _, side = segment.name.partition("_")
        if segment.parent is None:
            for joint, axis in (("pelvis_tx", (1, 0, 0)), ("pelvis_tz", (0, 0, 1))):
                ElementTree.SubElement(body, "joint", name=joint, type="slide", axis=_text(*axis))
            ElementTree.SubElement(body, "joint", name="pelvis_tilt", type="hinge", axis="0 -1 0")
        elif part in JOINTS:
            joint, hinge = JOINTS[part]
            low, high = skeleton.ranges[f"{joint}_{side}"]
            ElementTree.SubElement(
                body,
                "joint",
                name=f"{joint}_{side}",
                type="hinge",
                axis=_text(*hinge),
                range=_text(low, high),
                damping=_text(options.joint_damping),
            )
        _inertial(body, segment)
        if part == "foot":
            _sole(body, skeleton, side, options.sole_radius)
    for segment in skeleton.segments.values():
        _draw(bodies[segment.name], segment, skeleton)
    return bodies


def _inertial(body: ElementTree.Element, segment: Segment) -> None:
    i = segment.inertia
    ElementTree.SubElement(
        body,
        "inertial",
        mass=_text(segment.mass),
        pos=_text(*segment.centre_of_mass),
        fullinertia=_text(i[0, 0], i[1, 1], i[2, 2], i[0, 1], i[0, 2], i[1, 2]),
    )


def _sole(body: ElementTree.Element, skeleton: Skeleton, side: str, radius: float) -> None:
    for name, place in (("heel", skeleton.heel), ("ball", skeleton.ball), ("toe", skeleton.toe)):
        mirrored = place * np.array([1.0, 1.0 if side == "l" else -1.0, 1.0]) + np.array([0.0, 0.0, radius])
        ElementTree.SubElement(body, "geom", {"class": "sole"}, name=f"{name}_{side}", pos=_text(*mirrored))


def _draw(body: ElementTree.Element, segment: Segment, skeleton: Skeleton) -> None:
    """A capsule from the segment's joint to the next one; the foot is drawn by its soles and one capsule."""
    part, _, side = segment.name.partition("_")
    below = {"pelvis": "torso", "thigh": f"shank_{side}", "shank": f"foot_{side}"}
    if part in below:
        end = skeleton.segments[below[part]].position
    elif part == "torso":
        end = 2.0 * segment.centre_of_mass
    else:
        end = skeleton.ball * np.array([1.0, 1.0 if side == "l" else -1.0, 1.0])
    ElementTree.SubElement(
        body,
        "geom",
        name=f"{segment.name}_shape",
        type="capsule",
        size=_text(SEGMENT_RADIUS[part]),
        fromto=_text(0, 0, 0, *end),
    )


def _wear(bodies: Mapping[str, ElementTree.Element], skeleton: Skeleton, exo: HipExoskeleton) -> None:
    frame_place = np.array([-exo.frame_offset, 0.0, 0.0]) + skeleton.segments["thigh_l"].position * [1, 0, 0]
    _box(bodies["pelvis"], "exo_frame", frame_place, exo.frame_mass, exo.frame_size)
    ElementTree.SubElement(bodies["pelvis"], "site", name="imu_pelvis", pos=_text(*frame_place), size="0.01")
    for side, outward in zip(SIDES, (1.0, -1.0), strict=True):
        thigh = skeleton.segments[f"shank_{side}"].position
        place = exo.cuff_place * thigh + np.array([0.0, outward * (SEGMENT_RADIUS["thigh"] + exo.cuff_size[1]), 0.0])
        _box(bodies[f"thigh_{side}"], f"exo_cuff_{side}", place, exo.cuff_mass, exo.cuff_size)
        ElementTree.SubElement(
            bodies[f"thigh_{side}"], "site", name=f"imu_thigh_{side}", pos=_text(*place), size="0.01"
        )


def _box(
    parent: ElementTree.Element, name: str, place: FloatArray, mass: float, size: tuple[float, float, float]
) -> None:
    body = ElementTree.SubElement(parent, "body", name=name, pos=_text(*place))
    ElementTree.SubElement(body, "inertial", mass=_text(mass), pos="0 0 0", diaginertia=_text(*box_inertia(mass, size)))
    ElementTree.SubElement(body, "geom", name=f"{name}_shape", type="box", size=_text(*size), rgba="0.15 0.35 0.6 1")


def _muscles(
    root: ElementTree.Element,
    bodies: Mapping[str, ElementTree.Element],
    skeleton: Skeleton,
    tendons: Mapping[str, Tendon],
    curves: Mapping[str, FloatArray],
) -> None:
    tendon_list = ElementTree.SubElement(root, "tendon")
    actuators = ElementTree.SubElement(root, "actuator")
    for muscle in MUSCLES:
        group, side = muscle.split("_")
        chain = _segments(MEMBERS[group][1], side)
        spatial = ElementTree.SubElement(tendon_list, "spatial", name=muscle, width="0.004", rgba="0.7 0.15 0.15 1")
        for i, strand in enumerate(tendons[muscle].strands):
            ElementTree.SubElement(spatial, "pulley", divisor=_text(strand.divisor))
            # The fit counts an origin from the joint below its segment, an insertion from the joint above.
            joint = skeleton.segments[chain[strand.proximal + 1]].position
            for end, segment, base, place in (
                ("origin", chain[strand.proximal], joint, strand.start),
                ("insertion", chain[strand.distal], np.zeros(3), strand.end),
            ):
                site = f"{muscle}_{i}_{end}"
                position = base + np.array([place[0], 0.0, place[1]])
                ElementTree.SubElement(bodies[segment], "site", name=site, pos=_text(*position), size="0.003")
                ElementTree.SubElement(spatial, "site", site=site)
        peak, slack, optimal, shortest, longest, fastest, passive, eccentric = curves[muscle]
        slack -= tendons[muscle].offset
        ElementTree.SubElement(
            actuators,
            "muscle",
            name=muscle,
            tendon=muscle,
            force=_text(peak),
            timeconst=_text(*ACTIVATION_TIMES),
            range=_text(*OPERATING_RANGE),
            lengthrange=_text(*(slack + factor * optimal for factor in OPERATING_RANGE)),
            lmin=_text(shortest),
            lmax=_text(longest),
            vmax=_text(fastest),
            fpmax=_text(passive),
            fvmax=_text(eccentric),
        )


def _segments(joints: Iterable[str], side: str) -> list[str]:
    """Segments along the crossed joints: above the first, then below each."""
    names = [SEGMENT_ABOVE[next(iter(joints))], *(SEGMENT_BELOW[joint] for joint in joints)]
    return [name if name == "pelvis" else f"{name}_{side}" for name in names]


def _sensors(root: ElementTree.Element) -> None:
    sensors = ElementTree.SubElement(root, "sensor")
    for side in SIDES:
        joint = f"hip_flexion_{side}"
        ElementTree.SubElement(sensors, "jointpos", name=f"encoder_position_{side}", joint=joint)
        ElementTree.SubElement(sensors, "jointvel", name=f"encoder_velocity_{side}", joint=joint)
    for site in ("imu_pelvis", *(f"imu_thigh_{side}" for side in SIDES)):
        ElementTree.SubElement(sensors, "gyro", name=f"{site}_gyro", site=site)
        ElementTree.SubElement(sensors, "accelerometer", name=f"{site}_accelerometer", site=site)
        ElementTree.SubElement(sensors, "framequat", name=f"{site}_orientation", objtype="site", objname=site)


def _keyframe(root: ElementTree.Element, skeleton: Skeleton) -> None:
    """Standing upright, soles on the floor."""
    height = -sum(skeleton.segments[name].position[2] for name in ("thigh_l", "shank_l", "foot_l"))
    height -= skeleton.heel[2]
    keyframe = ElementTree.SubElement(root, "keyframe")
    ElementTree.SubElement(keyframe, "key", name="stand", qpos=_text(0.0, height, *[0.0] * 7))
