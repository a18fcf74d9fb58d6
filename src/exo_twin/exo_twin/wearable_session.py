"""From a recording of standing and walking to the calibration inside a twin, and what a person is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from exo_common.bag import BagReader
from exo_common.errors import ExoError
from exo_twin.calibration import CALIBRATION_FILE, TwinCalibration
from exo_twin.inverse.wearable_calibration import WearableFit, calibrate_wearables
from exo_twin.inverse.wearable_recording import WearableRecording
from exo_twin.inverse.wearable_reference import reference_of_twin
from exo_twin.twin import Twin
from exo_twin.wearable_guide import IMU_TOPICS, JOINT_STATES, Collected


def read_bag(folder: Path) -> WearableRecording:
    """Encoders and IMUs of a rosbag2 recording.

    Raises
    ------
    ExoError : if it is no bag, or lacks one of the topics.
    """
    collected = Collected()
    segments = {topic: name for name, topic in IMU_TOPICS.items()}
    with BagReader(folder) as bag:
        missing = [topic for topic in (JOINT_STATES, *segments) if topic not in bag.topics]
        if missing:
            raise ExoError(f"{folder} lacks {', '.join(missing)}; record them while standing 3 s and walking ten steps")
        for item in bag.messages((JOINT_STATES, *segments)):
            if item.topic == JOINT_STATES:
                collected.joints(item.message)
            else:
                collected.imu(segments[item.topic], item.message)
    return collected.recording()


def calibrate_twin(twin: Twin, recording: WearableRecording, source: str) -> WearableFit:
    """Find how a twin's wearer wears the sensors and write it into the twin's calibration; its EMG part is kept.

    Parameters
    ----------
    source : where the recording comes from, in words.

    Raises
    ------
    ExoError : if the recording is refused, the earlier calibration is damaged or another wearer's, or the disk is full.
    """
    earlier = TwinCalibration.of_twin(twin.folder, twin.wearer)
    fit = calibrate_wearables(recording, reference_of_twin(twin))
    words = f"{source}; stance and {fit.steps} steps{', treadmill' if fit.treadmill else ''}"
    fit.calibration(twin.wearer, words, earlier).save(twin.folder / CALIBRATION_FILE)
    return fit


def lines(fit: WearableFit) -> list[str]:
    """One line per sensor, for people."""
    found = [
        f"{f'hip encoder {side}':16s} zero at {np.degrees(zero):6.1f} deg           +- {np.degrees(sd):.1f} deg"
        for side, zero, sd in zip(("left", "right"), fit.zero, fit.zero_sd, strict=True)
    ]
    for name, imu in fit.imus.items():
        x, y, z = Rotation.from_matrix(imu.rotation).as_rotvec(degrees=True)
        sd = ", ".join(f"{value:.1f}" for value in np.degrees(imu.sd))
        found.append(f"{f'IMU {name}':16s} turned by ({x:5.1f}, {y:5.1f}, {z:5.1f}) deg  +- ({sd}) deg about x, y, z")
    return found + [f"warning: {warning}" for warning in fit.warnings]
