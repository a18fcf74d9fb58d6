"""The virtual device: the twin wearing the exo, seen through the exo's own sensors.

No ROS here. `VirtualDevice.run` advances the physics by one publication period
and returns what a real device would know (encoders, IMUs, its own torque)
and, apart from it, the truth that only a simulation knows (its EMG driver makes
the wearer's EMG of the excitation in it). Commands go through
the same guard, envelope and age check as on hardware, inside the 1 kHz loop.

Sample time: a publication's last physics step is a control tick; encoders,
IMUs and truth all belong to the beginning of that step, and the torque to the
millisecond that begins there.

A period is simulated when it is over. So that no command acts before it was
there, each waits for the physics step of its arrival and is judged at that time.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque

import mujoco
import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_common.parameters import Parameters, parameter
from exo_safety.command_guard import Command, CommandGuard
from exo_twin.forward.motions import MOTIONS, make
from exo_twin.forward.tracking import TICK_STEPS, TrackingTwin, TwinSample
from exo_twin.forward.walker import IMU_SITES, PHYSICS_DT_S, Walker
from exo_twin.twin import Twin

FloatArray = NDArray[np.float64]

PERIOD_STEPS = 10
STEP_NS = round(PHYSICS_DT_S * NS_PER_S)
PERIOD_NS = PERIOD_STEPS * STEP_NS
assert PERIOD_STEPS % TICK_STEPS == 0, "a publication must end on a control tick"

# The tail of the actuator's exponential decay ends here, at exactly zero.
NEGLIGIBLE_NM = 1e-3
# Commands kept between two periods: ten times what the supervisor sends.
INBOX = 10

# Motor winding: rise at continuous torque and time constant of a drive of this class (about 10 Nm continuous).
AMBIENT_C = 25.0
HEATING_C_PER_NM2 = 0.3
THERMAL_S = 300.0


@dataclasses.dataclass(frozen=True)
class DeviceConfig(Parameters):
    """How the simulated device and its sensors behave."""

    seed: int = parameter(0, "", "seed of every random number", minimum=0)
    motion: str = parameter("walk", "", "what the wearer does", choices=MOTIONS)
    torque_bandwidth_hz: float = parameter(40.0, "Hz", "bandwidth of the actuators' torque", minimum=5.0, maximum=200.0)
    encoder_noise_rad: float = parameter(
        3e-4, "rad", "standard deviation of the hip encoders", minimum=0.0, maximum=0.05
    )
    encoder_rate_noise_rad_s: float = parameter(
        0.02, "rad/s", "standard deviation of the hip velocities", minimum=0.0, maximum=1.0
    )
    torque_noise_nm: float = parameter(0.03, "Nm", "standard deviation of the torque sensors", minimum=0.0, maximum=1.0)
    gyro_noise_rad_s: float = parameter(0.005, "rad/s", "standard deviation of the gyros", minimum=0.0, maximum=0.5)
    accelerometer_noise_m_s2: float = parameter(
        0.05, "m/s^2", "standard deviation of the accelerometers", minimum=0.0, maximum=5.0
    )


@dataclasses.dataclass(frozen=True)
class ImuReading:
    """One IMU in its own axes (x forward, y left, z up when standing)."""

    orientation_xyzw: FloatArray
    angular_velocity: FloatArray
    acceleration: FloatArray


@dataclasses.dataclass(frozen=True)
class DeviceSample:
    """What one publication period brought.

    Attributes
    ----------
    stamp_ns : acquisition time of everything.
    position, velocity : (2,) hips, left, right, as the encoders see them; rad, rad/s.
    torque_nm : (2,) on the wearer from `stamp_ns` on, for one physics step: what the guard made of
        this very position and velocity, behind the actuators' lag and limits; the accelerometers
        and `truth` are under it. torque_measured_nm : (2,) the same, as the torque sensors see it.
    temperature_c : (2,) motors.
    imus : reading per site of `IMU_SITES`.
    truth : the twin's state, known to a simulation only.
    arm_session, command_sequence, command_age_s, refused, fault : of the guard.
    """

    stamp_ns: int
    position: FloatArray
    velocity: FloatArray
    torque_measured_nm: FloatArray
    torque_nm: FloatArray
    temperature_c: FloatArray
    imus: dict[str, ImuReading]
    truth: TwinSample
    arm_session: int
    command_sequence: int
    command_age_s: float
    refused: int
    fault: str


class VirtualDevice:
    """The wearer and the exo; deterministic for a seed and a sequence of commands.

    `run` belongs to one thread; :meth:`offer` and :attr:`writers` may be used from another.

    Attributes
    ----------
    writers : publishers on the command topic, as last counted.
    walker : the body, with the indices of its coordinates.
    """

    def __init__(self, twin: Twin, config: DeviceConfig) -> None:
        self.config = config
        self.walker = Walker(twin.walker)
        self._twin = TrackingTwin(self.walker, make(config.motion, self.walker, twin.gait))
        self._guard = CommandGuard(twin.envelope)
        self.writers = 1
        self._inbox: deque[tuple[int, Command]] = deque(maxlen=INBOX)
        self._noise = np.random.default_rng((config.seed, 1))
        self._applied = [0.0, 0.0]
        self._lag = 1.0 - math.exp(-2.0 * math.pi * config.torque_bandwidth_hz * PHYSICS_DT_S)
        self._temperature = np.full(2, AMBIENT_C)
        self._position, self._velocity = np.zeros(2), np.zeros(2)
        site, kinds = mujoco.mjtObj.mjOBJ_SITE, mujoco.mjtSensor
        self._imus = {
            name: tuple(
                self.walker.sensor(kind, site, name)
                for kind in (kinds.mjSENS_FRAMEQUAT, kinds.mjSENS_GYRO, kinds.mjSENS_ACCELEROMETER)
            )
            for name in IMU_SITES
        }
        # Power-on: one control tick, so that the first publication ends on one too.
        self._step(0)

    def offer(self, command: Command, arrival_ns: int) -> None:
        """A command arrived at `arrival_ns`, on the clock of the stamps; the guard judges it in that physics step."""
        self._inbox.append((arrival_ns, command))

    def run(self, stamp_ns: int, late_ns: int = 0) -> DeviceSample:
        """Advance by one period (10 ms).

        Parameters
        ----------
        stamp_ns : when the period's last sample is due.
        late_ns : how late the host is; commands age by it, so that a stalled
            loop cannot mistake an old command for a fresh one.
        """
        self._guard.writers = self.writers
        first = stamp_ns - (PERIOD_STEPS - 1) * STEP_NS
        for i in range(PERIOD_STEPS):
            self._step(first + i * STEP_NS + late_ns)
        self._heat()
        now = stamp_ns + late_ns
        guard, torque = self._guard, self._twin.sample.exo_nm
        return DeviceSample(
            stamp_ns=stamp_ns,
            position=self._position,
            velocity=self._velocity,
            torque_measured_nm=torque + self.config.torque_noise_nm * self._noise.standard_normal(2),
            torque_nm=torque,
            temperature_c=self._temperature.copy(),
            imus={name: self._imu(name) for name in self._imus},
            truth=self._twin.sample,
            arm_session=guard.session,
            command_sequence=guard.sequence,
            command_age_s=guard.age_s(now),
            refused=guard.refused,
            fault=guard.fault(now),
        )

    def _step(self, now_ns: int) -> None:
        """One millisecond: encoders, guard, actuator, body."""
        data, hips, config = self.walker.data, self.walker.hips, self.config
        noise = self._noise.standard_normal((2, 2))
        self._position = data.qpos[hips] + config.encoder_noise_rad * noise[0]
        self._velocity = data.qvel[hips] + config.encoder_rate_noise_rad_s * noise[1]
        while self._inbox and self._inbox[0][0] <= now_ns:
            self._guard.offer(self._inbox.popleft()[1], now_ns)
        (left, right), (left_rate, right_rate) = self._position.tolist(), self._velocity.tolist()
        wanted = self._guard.step(now_ns, PHYSICS_DT_S, (left, right), (left_rate, right_rate))
        for i in (0, 1):
            self._applied[i] += self._lag * (wanted[i] - self._applied[i])
            if wanted[i] == 0.0 and abs(self._applied[i]) < NEGLIGIBLE_NM:
                self._applied[i] = 0.0
        self._twin.step((self._applied[0], self._applied[1]))

    def _heat(self) -> None:
        target = AMBIENT_C + HEATING_C_PER_NM2 * np.square(self._applied)
        self._temperature += (target - self._temperature) * PERIOD_STEPS * PHYSICS_DT_S / THERMAL_S

    def _imu(self, name: str) -> ImuReading:
        orientation, gyro, accelerometer = self._imus[name]
        sensors, noise = self.walker.data.sensordata, self._noise
        w, x, y, z = sensors[orientation]
        return ImuReading(
            orientation_xyzw=np.array([x, y, z, w]),
            angular_velocity=sensors[gyro] + self.config.gyro_noise_rad_s * noise.standard_normal(3),
            acceleration=sensors[accelerometer] + self.config.accelerometer_noise_m_s2 * noise.standard_normal(3),
        )
