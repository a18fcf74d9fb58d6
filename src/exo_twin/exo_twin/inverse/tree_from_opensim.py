"""Reads the kinematic tree out of an OpenSim model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.kinematic_tree import GROUND, Drive, Joint, KinematicTree
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

TABLE_POINTS = 181  # about a degree apart over a coordinate's range; cubic between
BEYOND_RANGE = 0.25  # of a range, by which tables reach beyond either end: walkers exceed a model's limits
LINEAR_TOLERANCE = 1e-9  # rad or m; a function this near to its chord is a straight line
# Axes that each simple joint turns about; a weld has none, a custom joint tells its own.
SIMPLE_JOINTS = {"PinJoint": ("z",), "UniversalJoint": ("x", "y"), "BallJoint": ("x", "y", "z"), "WeldJoint": ()}
UNIT = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def kinematic_tree(model: Any) -> KinematicTree:
    """The tree of an initialised opensim.Model with its marker set.

    Coordinates that a coupler drives are replaced by the function of their driver.

    Raises
    ------
    ExoError : for a joint type, a coupler of several coordinates, or a coordinate prescribed over time, that
        is not understood.
    """
    names = [c.getName() for c in model.getCoordinateSet()]
    ranges = {c.getName(): (c.getRangeMin(), c.getRangeMax()) for c in model.getCoordinateSet()}
    defaults = {c.getName(): _resting(c) for c in model.getCoordinateSet()}
    clamped = {c.getName(): c.getDefaultClamped() for c in model.getCoordinateSet()}
    locked = {c.getName(): c.getDefaultLocked() or c.get_prescribed() for c in model.getCoordinateSet()}
    couplers = _couplers(model)
    free = [name for name in names if name not in couplers]
    hangs: dict[str, tuple[str, Any]] = {}
    for joint in model.getJointSet():
        body = joint.getChildFrame().findBaseFrame().getName()
        hangs[body] = (joint.getParentFrame().findBaseFrame().getName(), joint)
    bodies: list[str] = []
    while len(bodies) < len(hangs):
        ready = [b for b, (p, _) in hangs.items() if b not in bodies and (p == "ground" or p in bodies)]
        if not ready:
            raise ExoError("the OpenSim model's joints form a loop; cut it with a constraint and try again")
        bodies += ready
    joints = []
    for body in bodies:
        parent, joint = hangs[body]
        axes, drives = _axes(joint, free, ranges, couplers, defaults)
        joints.append(
            Joint(
                GROUND if parent == "ground" else bodies.index(parent),
                _matrix(joint.getParentFrame().findTransformInBaseFrame()),
                _matrix(joint.getChildFrame().findTransformInBaseFrame()),
                axes,
                drives,
            )
        )
    markers = model.getMarkerSet()
    marker_names, marker_body, marker_place = [], [], []
    for i in range(markers.getSize()):
        marker = markers.get(i)
        frame = marker.getParentFrame()
        transform = _matrix(frame.findTransformInBaseFrame())
        location = np.array([marker.get_location().get(k) for k in range(3)])
        marker_names.append(marker.getName())
        marker_body.append(bodies.index(frame.findBaseFrame().getName()))
        marker_place.append(transform[:3, :3] @ location + transform[:3, 3])
    return KinematicTree(
        tuple(bodies),
        tuple(joints),
        tuple(free),
        np.array([defaults[name] for name in free]),
        np.array([ranges[name][0] for name in free]),
        np.array([ranges[name][1] for name in free]),
        np.array([clamped[name] for name in free]),
        np.array([locked[name] for name in free]),
        tuple(marker_names),
        np.array(marker_body, dtype=np.int64),
        np.array(marker_place).reshape(-1, 3),
    )


def _resting(coordinate: Any) -> float:
    """Where a coordinate stands unless it is moved, rad or m."""
    if not coordinate.get_prescribed():
        return float(coordinate.getDefaultValue())
    if opensim.Constant.safeDownCast(coordinate.getPrescribedFunction()) is None:
        raise ExoError(
            f"coordinate {coordinate.getName()} is prescribed to change over time; make it constant, lock it or free it"
        )
    return _value(coordinate.getPrescribedFunction(), 0.0)


def _couplers(model: Any) -> dict[str, tuple[str, Any]]:
    """Dependent coordinate -> (driver, function)."""
    result = {}
    constraints = model.getConstraintSet()
    for i in range(constraints.getSize()):
        coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraints.get(i))
        if coupler is not None and coupler.get_isEnforced():
            drivers = coupler.getIndependentCoordinateNames()
            if drivers.size() != 1:
                raise ExoError(f"coupler {coupler.getName()} has {drivers.size()} drivers; only one is understood")
            result[coupler.getDependentCoordinateName()] = (drivers.get(0), coupler.getFunction())
    return result


def _axes(
    joint: Any,
    free: list[str],
    ranges: Mapping[str, tuple[float, float]],
    couplers: Mapping[str, tuple[str, Any]],
    defaults: Mapping[str, float],
) -> tuple[FloatArray, tuple[Drive, ...]]:
    kind = joint.getConcreteClassName()
    axes = np.vstack([np.eye(3), np.eye(3)])
    drives = [Drive(-1, 0.0, 0.0)] * 6
    if kind in SIMPLE_JOINTS:
        for i, axis in enumerate(SIMPLE_JOINTS[kind]):
            axes[i] = UNIT[axis]
            drives[i] = _drive(joint.get_coordinates(i).getName(), None, free, ranges, couplers, defaults)
    elif kind == "CustomJoint":
        transform = opensim.CustomJoint.safeDownCast(joint).getSpatialTransform()
        for i in range(6):
            axis = transform.getTransformAxis(i)
            axes[i] = [axis.getAxis().get(k) for k in range(3)]
            names = axis.getCoordinateNamesInArray()
            if names.size() > 1:
                raise ExoError(f"joint {joint.getName()} has an axis of several coordinates; only one is understood")
            driver = names.get(0) if names.size() else ""
            drives[i] = _drive(driver, axis.getFunction(), free, ranges, couplers, defaults)
    else:
        known = ", ".join([*SIMPLE_JOINTS, "CustomJoint"])
        raise ExoError(f"joint {joint.getName()} is a {kind}; the joints understood are {known}")
    axes[:3] /= np.linalg.norm(axes[:3], axis=1, keepdims=True)
    return axes, tuple(drives)


def _drive(
    driver: str,
    function: Any,
    free: list[str],
    ranges: Mapping[str, tuple[float, float]],
    couplers: Mapping[str, tuple[str, Any]],
    defaults: Mapping[str, float],
) -> Drive:
    """The function of one axis as a Drive; `function` None means the coordinate itself."""
    chain = [] if function is None else [function]
    while driver in couplers:
        driver, link = couplers[driver]
        chain.append(link)
    if not driver:
        return Drive(-1, 0.0, _value(function, 0.0))
    low, high = ranges[driver]
    beyond = BEYOND_RANGE * (high - low)
    x = np.linspace(low - beyond, high + beyond, TABLE_POINTS)
    y = x.copy()
    for link in reversed(chain):
        y = np.array([_value(link, v) for v in y])
    slope = (y[-1] - y[0]) / (x[-1] - x[0])
    if np.abs(y - (y[0] + slope * (x - x[0]))).max() < LINEAR_TOLERANCE:
        return Drive(free.index(driver), float(slope), float(y[0] - slope * x[0]))
    return Drive(free.index(driver), 0.0, 0.0, np.vstack([x, y]))


def _value(function: Any, x: float) -> float:
    return float(function.calcValue(opensim.Vector(1, x)))


def _matrix(transform: Any) -> FloatArray:
    result = np.eye(4)
    for i in range(3):
        result[i, 3] = transform.p().get(i)
        for j in range(3):
            result[i, j] = transform.R().get(i, j)
    return result
