"""A small made-up twin for tests: constant moment arms, textbook gait curves, no opensim needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exo_common.artefact import writing
from exo_safety.envelope import Envelope, SideEnvelope
from exo_twin.planar_muscles import MUSCLES
from exo_twin.twin import CURVE_POINTS, Gait

# Moment arms (m, positive flexes) about hip, knee, ankle and strength (N) of an adult's muscle groups.
GROUPS = {
    "GLU": ((-0.06, 0.0, 0.0), 3000),
    "HFL": ((0.045, 0.0, 0.0), 2500),
    "HAM": ((-0.06, 0.03, 0.0), 3000),
    "RF": ((0.04, -0.04, 0.0), 1500),
    "VAS": ((0.0, -0.04, 0.0), 6000),
    "BFSH": ((0.0, 0.03, 0.0), 900),
    "GAS": ((0.0, 0.02, -0.045), 2500),
    "SOL": ((0.0, 0.0, -0.045), 4500),
    "TA": ((0.0, 0.0, 0.04), 1500),
}
JOINTS = ("hip_flexion", "knee_angle", "ankle_angle")
ENVELOPE = SideEnvelope(-0.6, 1.6, 8.0, 15.0, 200.0, 60.0)


def walker_xml() -> str:
    """A planar walker of 70 kg and 1.75 m with the names of the compiled one."""

    def leg(side: str) -> str:
        return f"""
      <body name="thigh_{side}" pos="0 0 0">
        <joint name="hip_flexion_{side}" axis="0 -1 0"/>
        <inertial pos="0 0 -0.18" mass="7" diaginertia="0.12 0.12 0.02"/>
        <site name="imu_thigh_{side}" pos="0.06 0 -0.2"/>
        <body name="shank_{side}" pos="0 0 -0.42">
          <joint name="knee_angle_{side}" axis="0 1 0"/>
          <inertial pos="0 0 -0.18" mass="3.3" diaginertia="0.05 0.05 0.01"/>
          <body name="foot_{side}" pos="0 0 -0.42">
            <joint name="ankle_angle_{side}" axis="0 -1 0"/>
            <inertial pos="0.05 0 -0.04" mass="1" diaginertia="0.002 0.005 0.005"/>
            <geom name="heel_{side}" type="sphere" size="0.02" pos="-0.05 0 -0.06"/>
            <geom name="ball_{side}" type="sphere" size="0.02" pos="0.11 0 -0.06"/>
            <geom name="toe_{side}" type="sphere" size="0.02" pos="0.17 0 -0.06"/>
          </body>
        </body>
      </body>"""

    tendons, muscles = [], []
    for name in MUSCLES:
        group, side = name.split("_")
        arms, strength = GROUPS[group]
        joints = "".join(f'<joint joint="{j}_{side}" coef="{-r}"/>' for j, r in zip(JOINTS, arms, strict=True) if r)
        tendons.append(f'<fixed name="{name}">{joints}</fixed>')
        muscles.append(f'<muscle name="{name}" tendon="{name}" lengthrange="-0.15 0.15" force="{strength}"/>')
    sensors = "".join(
        f'<jointpos joint="hip_flexion_{s}"/><jointvel joint="hip_flexion_{s}"/>' for s in "lr"
    ) + "".join(
        f'<gyro site="{n}"/><accelerometer site="{n}"/><framequat objtype="site" objname="{n}"/>'
        for n in ("imu_pelvis", "imu_thigh_l", "imu_thigh_r")
    )
    motors = "".join(f'<motor name="hip_exo_{s}" joint="hip_flexion_{s}"/>' for s in "lr")
    return f"""<mujoco><option timestep="0.001"/><compiler autolimits="true"/>
  <worldbody>
    <geom type="plane" size="50 1 1"/>
    <body name="pelvis" pos="0 0 0">
      <joint name="pelvis_tx" type="slide" axis="1 0 0"/>
      <joint name="pelvis_tz" type="slide" axis="0 0 1"/>
      <joint name="pelvis_tilt" axis="0 -1 0"/>
      <inertial pos="0 0 0.25" mass="47.4" diaginertia="3 3 0.5"/>
      <site name="imu_pelvis" pos="-0.1 0 0.05"/>{leg("l")}{leg("r")}
    </body>
  </worldbody>
  <tendon>{"".join(tendons)}</tendon>
  <actuator>{"".join(muscles)}{motors}</actuator>
  <sensor>{sensors}</sensor>
</mujoco>"""


def gait() -> Gait:
    """Curves of textbook shape: hip 44, knee 60, ankle 25 deg of motion."""
    x = np.linspace(0.0, 1.0, CURVE_POINTS)
    hip = 0.18 + 0.38 * np.cos(2 * np.pi * (x - 0.93))
    knee = 0.12 + 0.2 * np.exp(-(((x - 0.13) / 0.07) ** 2)) + 0.92 * np.exp(-(((x - 0.72) / 0.1) ** 2))
    ankle = 0.15 * np.exp(-(((x - 0.43) / 0.15) ** 2)) - 0.33 * np.exp(-(((x - 0.63) / 0.07) ** 2))
    curves = {f"{n}_{s}": c for s in "lr" for n, c in zip(JOINTS, (hip, knee, ankle), strict=True)}
    return Gait(1.1, None, 0.62, 0.5, [], {}, curves, {k: np.full(CURVE_POINTS, 0.02) for k in curves}, "made up")


def write(folder: Path) -> Path:
    """Write a whole twin folder and return it."""
    with writing(folder, "twin", "synthetic", {}, []) as scratch:
        (scratch / "walker.xml").write_text(walker_xml(), encoding="utf-8")
        gait().save(scratch / "gait.yaml")
        np.savez(scratch / "model.npz", mass=np.array(70.0), height=np.array(1.75))
        Envelope("synthetic", ENVELOPE, ENVELOPE, "made up").save(scratch / "envelope.yaml")
    return folder
