"""The processor node, frame by frame in this process: what it takes, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from numpy.typing import NDArray

from exo_common.artefact import writing
from exo_common.clock import to_stamp
from exo_common.errors import ExoError
from exo_emg.calibration import Calibration, Maximum, write_calibration
from exo_emg.chunks import VIRTUAL, frame_id
from exo_emg.nodes.emg_processor import EmgProcessor
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig
from exo_interfaces.msg import EmgEnvelope, EmgFrame

RATE = 1000.0
MUSCLES = ["soleus_r", "vastus_medialis_r"]
START_NS = 1_700_000_000_000_000_000
MAXIMUM_V = SynthesisConfig().maximum_v()


class Processor:
    """The node, with what it published."""

    def __init__(self) -> None:
        self.node = EmgProcessor()
        self.envelopes: list[EmgEnvelope] = []
        self.node._publisher.publish = self.envelopes.append

    def feed(
        self,
        samples: NDArray[np.float64],
        first: int = 0,
        start_ns: int = START_NS,
        driver: str = VIRTUAL,
        size: int = 10,
    ) -> None:
        """Frames of samples from `first` on; `start_ns` is the time of sample 0."""
        for i in range(0, len(samples), size):
            frame = EmgFrame(first_sample=first + i, sampling_rate_hz=RATE, muscles=MUSCLES)
            frame.header.stamp = to_stamp(start_ns + round((first + i) * 1e9 / RATE))
            frame.header.frame_id = frame_id(driver)
            frame.samples = samples[i : i + size].astype(np.float32).ravel()
            self.node._on_frame(frame)

    def told(self) -> str:
        self.node._report()
        return self.node._diagnostics.message

    @property
    def values(self) -> NDArray[np.float64]:
        return np.array([list(e.envelope) for e in self.envelopes])

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.array([list(e.valid) for e in self.envelopes])


@pytest.fixture
def processor() -> Iterator[Callable[..., Processor]]:
    made: list[Processor] = []

    def make(*parameters: str) -> Processor:
        rclpy.init(args=["--ros-args", *(word for p in parameters for word in ("-p", p))], domain_id=89)
        made.append(Processor())
        return made[-1]

    yield make
    for each in made:
        each.node.destroy_node()
    if rclpy.ok():
        rclpy.shutdown()


def walking(seconds: float, seed: int = 0) -> NDArray[np.float64]:
    phase = np.arange(round(seconds * RATE))[:, None] / RATE / 1.1 + np.arange(2) / 2.0
    return EmgSynthesizer(2, seed).frame(0.02 + 0.6 * np.maximum(0.0, np.sin(2 * np.pi * phase)) ** 2)


def test_the_peak_of_walking_is_not_that_of_resting_and_quality_goes_on(processor: Callable[..., Processor]) -> None:
    own = processor("normalisation:=dynamic_peak", "mains:='off'")
    own.feed(3e-6 * np.random.default_rng(0).standard_normal((10_000, 2)))
    assert not own.valid.any(), "a resting wearer has no peak"
    own.feed(walking(15.0), first=10_000)
    late = slice(1500, None)
    assert own.valid[late].mean() > 0.95 and 0.9 < np.percentile(own.values[late], 97.0) < 1.3
    hum = 1e-3 * np.sin(2 * np.pi * 50.0 * np.arange(10_000) / RATE)
    own.feed(walking(10.0, 1) + np.column_stack([0.0 * hum, hum]), first=25_000)
    assert own.valid[3000:, 0].mean() > 0.95 and own.valid[3000:, 1].mean() < 0.1
    assert "vastus_medialis_r mains" in own.told()


def test_a_calibration_of_another_wearer_or_rate_is_refused(
    processor: Callable[..., Processor], tmp_path: Path
) -> None:
    path = tmp_path / "emg_calibration.yaml"
    write_calibration(path, Calibration("w01", {name: Maximum(MAXIMUM_V, "mvc", 250.0) for name in MUSCLES}))
    for wearer in ("w01", "w02"):
        with writing(tmp_path / wearer, "twin", wearer, {}, []) as twin:
            (twin / "gait.yaml").write_text("{}")
    with pytest.raises(ExoError, match="belongs to wearer 'w01', not 'w02'"):
        processor(f"calibration:={path}", f"twin:={tmp_path}/w02")
    rclpy.shutdown()
    own = processor(f"calibration:={path}", f"twin:={tmp_path}/w01")
    own.feed(walking(1.0))
    assert not own.envelopes and "made at 250 Hz, the driver sends 1000 Hz" in own.told()


def test_default_maxima_belong_to_the_virtual_wearer_only(processor: Callable[..., Processor]) -> None:
    own = processor()
    own.feed(walking(1.0))
    assert own.told() == "running"
    own.feed(walking(1.0), first=1000, driver="lsl")
    assert "fractions of the virtual wearer's maximum" in own.told()
    rclpy.shutdown()
    given = processor("maxima_v:=[2.0e-4]")
    given.feed(walking(1.0), driver="lsl")
    assert given.told() == "running"


def test_what_comes_twice_or_late_is_left_out_and_nothing_else_happens(processor: Callable[..., Processor]) -> None:
    samples = walking(4.0)
    own = processor("mains:='off'")
    own.feed(samples[:2000])
    own.feed(samples[1990:2000], first=1990)
    own.feed(samples[1000:1010], first=1000)
    # Half of this one is new.
    own.feed(samples[1990:2010], first=1990, size=20)
    own.feed(samples[2010:], first=2010)
    assert own.node._count["repeated_samples"] == 30 and own.node._count["stream_restarts"] == 0
    assert own.valid[60:].all()
    values = own.values
    rclpy.shutdown()
    plain = processor("mains:='off'")
    plain.feed(samples)
    np.testing.assert_array_equal(values, plain.values)


def test_fatigue_hears_for_how_long_a_driver_was_away(processor: Callable[..., Processor]) -> None:
    own = processor("window_s:=30.0")
    assert own.node._config.window_s == 30.0
    own.feed(walking(5.0))
    lost = []
    assert own.node._fatigue is not None and own.node._fatigue.config.window_s == 30.0
    add = own.node._fatigue.add
    own.node._fatigue.add = lambda *a, lost_before=0: (lost.append(lost_before), add(*a, lost_before=lost_before))  # type: ignore[method-assign]
    own.feed(walking(5.0), start_ns=START_NS + 605_000_000_000)
    assert own.node._count["stream_restarts"] == 1 and lost[0] == 600_000 and not any(lost[1:])


def test_an_electrode_on_no_muscle_is_told(processor: Callable[..., Processor]) -> None:
    samples = walking(35.0)
    samples[:, 1] = 3e-6 * np.random.default_rng(0).standard_normal(len(samples))
    own = processor()
    own.feed(samples)
    assert "no activity seen in 30 s on vastus_medialis_r" in own.told()
