"""A web page of the running graph, on this machine only: the wearer moves, torque, safety state, and a stop button."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import viser
import yourdfpy
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from viser import uplot
from viser.extras import ViserUrdf

from exo_bringup.description import describe, load_wearer
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.frames import HIPS
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import CONTROL
from exo_interfaces.msg import DeviceState, SafetyState

LOOPBACK = "127.0.0.1"
LEVELS = {0: "disarmed", 1: "armed", 2: "gated: an input is late", 3: "TRIPPED"}
SIDES = ("left", "right")
COLOURS = ("#0072b2", "#d55e00")  # told apart by everyone (Okabe and Ito)
PLOT_S = 6.0  # time shown
PLOT_HZ = 10.0
ARROW_M_PER_NM = 0.03
STOP_REPEAT_S = 0.2
STALE_S = 0.5  # after this silence the page says so


@dataclasses.dataclass(frozen=True)
class ViewParameters(Parameters):
    """Where the page is, and whose body it shows."""

    twin: str = parameter("", "", "folder of the wearer's twin; empty shows a generic adult")
    port: int = parameter(8080, "", "of the page on this machine", minimum=1, maximum=65535)
    rate: float = parameter(30.0, "Hz", "updates per second", minimum=1.0, maximum=60.0)


class History:
    """The last PLOT_S seconds of two values, left and right."""

    def __init__(self) -> None:
        self._rows: collections.deque[tuple[float, float, float]] = collections.deque(maxlen=round(PLOT_S * 100))

    def add(self, seconds: float, left: float, right: float) -> None:
        """One sample at a time in s."""
        self._rows.append((seconds, left, right))

    def columns(self) -> tuple[NDArray[np.float64], ...]:
        """Time before the newest sample (s), left, right; each (n,)."""
        rows = np.array(self._rows or [(0.0, 0.0, 0.0)], dtype=np.float64)
        return np.ascontiguousarray(rows[:, 0] - rows[-1, 0]), rows[:, 1].copy(), rows[:, 2].copy()


class View(Node):
    """The newest message of each kind, drawn at a steady rate."""

    def __init__(self) -> None:
        super().__init__("view")
        self.parameters = declare(self, ViewParameters)
        wearer = load_wearer(Path(self.parameters.twin).expanduser() if self.parameters.twin else None)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # its banner; the address is printed below
                self.server = viser.ViserServer(host=LOOPBACK, port=self.parameters.port, label="exo", verbose=False)
        except OSError:
            raise ExoError(f"port {self.parameters.port} is taken; choose another with port:=") from None
        self._stop_wanted = threading.Event()
        self._build_scene(wearer.pelvis_above_ground, describe(wearer))
        self._build_panel()
        self._heard_at = 0.0
        self._safety: SafetyState | None = None
        self._torque = np.zeros(2)
        self.angles: dict[str, float] = {}
        self._hips, self._torques = History(), History()
        self._next_plot = 0.0
        self._next_stop = 0.0
        self._stop = self.create_client(Trigger, "/safety/stop")
        self.create_subscription(JointState, "/twin/joint_states", self._on_joints, CONTROL)
        self.create_subscription(DeviceState, "/device/state", self._on_device, CONTROL)
        self.create_subscription(SafetyState, "/safety/state", self._on_safety, CONTROL)
        self._diagnostics = Diagnostics(self)
        self.create_timer(1.0 / self.parameters.rate, self._draw)
        print(f"http://{LOOPBACK}:{self.server.get_port()}", flush=True)

    # ---------------------------------------------------------------- page

    def _build_scene(self, pelvis_above_ground: float, urdf: str) -> None:
        scene = self.server.scene
        scene.set_up_direction("+z")
        scene.add_grid("/ground", width=4.0, height=4.0, cell_size=0.5)
        scene.add_frame("/wearer", position=(0.0, 0.0, pelvis_above_ground), show_axes=False)
        robot = yourdfpy.URDF.load(io.StringIO(urdf))
        self._body = ViserUrdf(self.server, robot, root_node_name="/wearer")
        self._joints = self._body.get_actuated_joint_names()
        lift = np.array([0.0, 0.0, pelvis_above_ground])
        self._hip_places = [robot.get_transform(f"exo_actuator_{side}")[:3, 3] + lift for side in ("l", "r")]
        self._arrows: list[Any] = [None, None]

        @self.server.on_client_connect
        def _(client: viser.ClientHandle) -> None:
            client.camera.position = (1.0, -3.0, 1.2)
            client.camera.look_at = (0.0, 0.0, 0.9)

    def _build_panel(self) -> None:
        gui = self.server.gui
        stop = gui.add_button("Stop", color="red", hint="Ends assistance at once; works at any time.")
        stop.on_click(lambda _: self.press_stop())
        self._text = gui.add_markdown("waiting for the graph ...")
        series = (
            uplot.Series(label="s"),
            *(uplot.Series(label=n, stroke=c, width=2) for n, c in zip(SIDES, COLOURS, strict=True)),
        )
        empty = History().columns()
        # Without this uPlot takes seconds for dates.
        seconds = {"x": uplot.Scale(time=False)}
        self._hip_plot = gui.add_uplot(empty, series, title="hip flexion, deg", scales=seconds, aspect=1.6)
        self._torque_plot = gui.add_uplot(
            empty, series, title="exo torque, Nm (flexion positive)", scales=seconds, aspect=1.6
        )

    # ------------------------------------------------------------ messages

    def _on_joints(self, message: JointState) -> None:
        self._heard_at = time.monotonic()
        self.angles.update(zip(message.name, message.position, strict=False))
        seconds = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        left, right = (float(np.degrees(self.angles.get(name, 0.0))) for name in HIPS)
        self._hips.add(seconds, left, right)

    def _on_device(self, message: DeviceState) -> None:
        self._torque = np.asarray(message.torque_nm, dtype=float)
        seconds = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        self._torques.add(seconds, float(self._torque[0]), float(self._torque[1]))

    def _on_safety(self, message: SafetyState) -> None:
        self._safety = message

    # ------------------------------------------------------------- drawing

    def _draw(self) -> None:
        self._ask_to_stop()
        with self.server.atomic():
            self._body.update_cfg(np.array([self.angles.get(name, 0.0) for name in self._joints]))
            self._draw_torque()
        now = time.monotonic()
        if now >= self._next_plot:
            self._next_plot = now + 1.0 / PLOT_HZ
            self._text.content = self.words()
            self._hip_plot.data = self._hips.columns()
            self._torque_plot.data = self._torques.columns()
            self._diagnostics.values = {"viewers": len(self.server.get_clients())}

    def press_stop(self) -> None:
        """What the button does; may be called from any thread."""
        self._stop_wanted.set()

    def _ask_to_stop(self) -> None:
        """Ask the supervisor to stop, again and again until it answers: stopping twice does no harm."""
        now = time.monotonic()
        if self._stop_wanted.is_set() and now >= self._next_stop and self._stop.service_is_ready():
            self._next_stop = now + STOP_REPEAT_S
            self._stop.call_async(Trigger.Request()).add_done_callback(lambda _: self._stop_wanted.clear())

    def _draw_torque(self) -> None:
        """An arrow from each hip, forward while the exo flexes, backward while it extends."""
        for side, (place, torque) in enumerate(zip(self._hip_places, self._torque, strict=True)):
            tip = place + np.array([ARROW_M_PER_NM * torque, 0.0, 0.0])
            self._arrows[side] = self.server.scene.add_line_segments(
                f"/torque_{SIDES[side]}",
                np.array([[place, tip]]),
                colors=np.array([213, 94, 0]),
                thickness=6.0,
                thickness_units="screen",
            )

    def words(self) -> str:
        """What the page says in words."""
        if not self._heard_at:
            return "waiting for the graph ..."
        silent = time.monotonic() - self._heard_at
        lines = [f"**no estimate for {silent:.1f} s**"] if silent > STALE_S else []
        if self._stop_wanted.is_set():
            lines.append("**stop was pressed, the supervisor has not answered yet: use the emergency stop**")
        if self._safety is None:
            lines.append("no supervisor heard yet")
        else:
            lines.append(f"**{LEVELS.get(self._safety.level, 'unknown')}** {self._safety.sentence}")
        lines.append(f"exo torque: left {self._torque[0]:+.1f} Nm, right {self._torque[1]:+.1f} Nm")
        return "\n\n".join(lines)

    def on_stop(self) -> None:
        """Close the page."""
        self.server.stop()


def main() -> None:
    """Entry point."""
    sys.exit(run(View))


if __name__ == "__main__":
    main()
