"""The whole mission once, on real input: video, twin, controller, live graph, report."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from exo_bringup.analysis import analyse
from exo_bringup.live import run_live
from exo_bringup.personalise import demo_session, personalise
from exo_bringup.progress import Stages
from exo_bringup.recording import SUMMARY_FILE, free_folder
from exo_bringup.report import Contents, write_report
from exo_capture.draw import annotated_frames
from exo_common.errors import ExoError
from exo_twin.twin import Twin

SHORTEST_RUN_S = 20.0
PICTURES = 3


def run(folder: Path, seconds: float) -> dict[str, Any]:
    """Run the demo into a new folder below `folder` and point `folder`/latest at it.

    Returns the content of demo.json. Earlier runs are kept.

    Raises
    ------
    ExoError : with the cause and the cure.
    """
    if not SHORTEST_RUN_S <= seconds <= 3600.0:
        raise ExoError(f"--seconds {seconds:g} is outside [{SHORTEST_RUN_S:g}, 3600]; choose a length inside")
    stages = Stages()
    started = datetime.datetime.now()
    out = free_folder(folder.resolve() / started.strftime("%Y%m%d-%H%M%S"))
    session = demo_session(out / "session")
    person = personalise(session, stages)
    with stages.stage("live graph") as progress:
        live = run_live(person.twin, person.controller, out / "bag", seconds, progress)
    with stages.stage("analysis of the recording"):
        recording = analyse(live.bag)
        twin = Twin.load(person.twin)
        losses = json.loads((live.bag / SUMMARY_FILE).read_text(encoding="utf-8"))
        video = person.capture.video
        pictures = [picture for _, picture in annotated_frames(video, PICTURES)] if video else []
    rom = twin.gait.rom_deg
    result = {
        "strides_found": len(twin.gait.strides),
        "hip_rom_deg": {side: rom[f"hip_flexion_{side}"] for side in "lr"},
        "knee_rom_deg": {side: rom[f"knee_angle_{side}"] for side in "lr"},
        "stride_time_s": twin.gait.stride_time,
        "hip_effort_change_pct": recording.hip_effort_change_pct,
        "strides_without_help": recording.unassisted.strides,
        "strides_with_help": recording.assisted.strides,
        "bag_messages": sum(recording.signals.messages.values()),
        "bag_missing": sum(topic["missing"] for topic in losses.values()),
        "graph_start_up_s": live.start_up_s,
        "stage_seconds": stages.seconds,
        "warnings": person.warnings,
    }
    tiles = {
        "strides found, both legs": result["strides_found"],
        "hip range of motion, left / right": f"{rom['hip_flexion_l']:.0f}° / {rom['hip_flexion_r']:.0f}°",
        "knee range of motion, left / right": f"{rom['knee_angle_l']:.0f}° / {rom['knee_angle_r']:.0f}°",
        "hip muscle effort with help (simulated)": f"{recording.hip_effort_change_pct:+.0f} %",
        "messages recorded": f"{result['bag_messages']:,}",
        "messages missing": result["bag_missing"],
    }
    contents = Contents(
        wearer=session.wearer,
        verdict=person.capture.quality.verdict,
        pictures=pictures,
        gait=twin.gait,
        recording=recording,
        figures=tiles,
        warnings=person.warnings,
        stage_seconds=stages.seconds,
        emg=person.emg,
    )
    with stages.stage("report"):
        write_report(out / "report.html", contents)
    (out / "demo.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    latest = folder / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(out.name)
    print(f"strides found: {result['strides_found']} (both legs), stride time {twin.gait.stride_time:.2f} s")
    print(f"hip ROM {rom['hip_flexion_l']:.0f} / {rom['hip_flexion_r']:.0f} deg, "
          f"knee ROM {rom['knee_angle_l']:.0f} / {rom['knee_angle_r']:.0f} deg (left / right)")  # fmt: skip
    print(f"hip muscle effort with help: {recording.hip_effort_change_pct:+.1f} % (simulated)")
    print(f"report: {out / 'report.html'}")
    return result
