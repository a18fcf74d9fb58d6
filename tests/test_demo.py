"""The demo's results on the real video, and the recording's worth."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from whole_system import ROOT, Demo

from exo_common.bag import BagReader

# Normal adult walking (Winter 1991; Kadaba et al. 1990): hip about 40-45, knee about 60-65 deg;
# the margins are those of one sagittal camera.
HIP_ROM_DEG = (35.0, 65.0)
KNEE_ROM_DEG = (50.0, 75.0)


def test_the_walking_person_has_a_normal_gait(demo: Demo) -> None:
    assert demo.result["strides_found"] >= 4
    for side in "lr":
        assert HIP_ROM_DEG[0] <= demo.result["hip_rom_deg"][side] <= HIP_ROM_DEG[1]
        assert KNEE_ROM_DEG[0] <= demo.result["knee_rom_deg"][side] <= KNEE_ROM_DEG[1]
    assert "hip ROM" in demo.output and "strides found" in demo.output


def test_the_report_stands_alone_and_tells_measured_from_simulated(demo: Demo) -> None:
    page = (demo.folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert page.count("<svg") == 4
    # Namespace names inside the SVG are identifiers, nothing is fetched.
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    for word in ("measured", "simulated", "range of motion", "Not a certified medical device"):
        assert word in page
    tiles = dict(re.findall(r"<b>(.*?)</b><span>(.*?)</span>", page))
    assert tiles[str(demo.result["strides_found"])].startswith("strides found")
    rom = demo.result["knee_rom_deg"]
    assert tiles[f"{rom['l']:.0f}° / {rom['r']:.0f}°"].startswith(("knee", "hip"))


def test_help_lowers_the_simulated_effort_of_the_hip_muscles(demo: Demo) -> None:
    assert demo.result["strides_with_help"] >= 3
    assert demo.result["hip_effort_change_pct"] < -3.0


def test_the_bag_reads_back_with_rosbags_and_lacks_nothing(demo: Demo) -> None:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader([demo.folder / "bag"], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        counts = Counter(connection.topic for connection, _, _ in reader.messages())
    account = json.loads((demo.folder / "bag" / "recording.json").read_text())
    assert {topic: entry["received"] for topic, entry in account.items()} == dict(counts)
    assert demo.result["bag_missing"] == sum(entry["missing"] for entry in account.values()) == 0
    # Heard from the first message on: what these send is numbered by DDS from one.
    for topic in (
        "/joint_states",
        "/emg/raw",
        "/imu/pelvis",
        "/device/state",
        "/virtual/wearer",
        "/emg/envelope",
        "/twin/state",
    ):
        assert account[topic]["before"] == 0, topic
    # The device numbers its states itself, from zero without a gap.
    with BagReader(demo.folder / "bag") as own:
        numbers = [m.message.sequence for m in own.messages(["/device/state"])]
    assert numbers == list(range(len(numbers)))
    for topic in ("/joint_states", "/emg/raw"):
        assert counts[topic] > 90 * 20, topic
    # Those that answer take the newest and skip what a busy machine made old; they must not skip half.
    for topic in ("/emg/envelope", "/twin/state", "/assist/request", "/safety/state"):
        assert counts[topic] > 0.5 * counts["/joint_states"], topic


def test_the_recorded_estimate_is_reproduced(demo: Demo) -> None:
    done = subprocess.run(
        [str(ROOT / "exo"), "replay", str(demo.folder / "bag"), "--twin", str(demo.twin), "--rate", "2"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"lockstep.*identical", done.stdout)
    assert re.search(r"over DDS.*within", done.stdout)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "walk.mp4").write_bytes(b"not a video"), "walk.mp4"),
        (lambda folder: (folder / "walk.mp4").unlink(), "walk.mp4"),
    ],
)
def test_a_broken_session_keeps_earlier_results(demo: Demo, tmp_path: Path, spoil: object, words: str) -> None:
    folder = tmp_path / "session"
    shutil.copytree(demo.folder / "session", folder)
    before = (folder / "twin" / "manifest.yaml").read_text()
    spoil(folder)  # type: ignore[operator]
    done = subprocess.run(
        [str(ROOT / "exo"), "personalise", str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert (folder / "twin" / "manifest.yaml").read_text() == before


def test_ctrl_c_half_way_is_a_sentence_and_keeps_what_was_there(demo: Demo, tmp_path: Path) -> None:
    folder = tmp_path / "session"
    shutil.copytree(demo.folder / "session", folder)
    before = (folder / "twin" / "manifest.yaml").read_text()
    process = subprocess.Popen(
        [str(ROOT / "exo"), "personalise", str(folder)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr
    assert "capture: one camera" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert (folder / "twin" / "manifest.yaml").read_text() == before
