"""`python -m exo_twin calibrate <twin>`: where the encoders' zeros are and how the IMUs sit, into the twin."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from exo_common.errors import ExoError
from exo_twin.calibration import CALIBRATION_FILE
from exo_twin.twin import Twin
from exo_twin.wearable_guide import STAND_S, STEPS
from exo_twin.wearable_session import calibrate_twin, lines, read_bag

EXPLANATION = f"""\
Live, with the exo on: stand still for {STAND_S:.0f} s, then walk {STEPS} steps straight ahead, when told so. A
recording that cannot serve is refused with the reason and asked again. With --bag the same from a recording of
/joint_states and /imu/*. Writes <twin>/{CALIBRATION_FILE} and nothing else; the EMG's part of it is kept."""


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code: 0 done, 1 stopped before, 2 bad input."""
    asked = _parser().parse_args(arguments)
    try:
        return _from_bag(asked.twin, asked.bag) if asked.bag else _live(asked.twin)
    except ExoError as error:
        print(f"exo_twin: {error}", file=sys.stderr)
        return 2


def _from_bag(folder: Path, bag: Path) -> int:
    twin = Twin.load(folder)
    fit = calibrate_twin(twin, read_bag(bag), f"recording {bag.resolve().name}")
    print("\n".join([*lines(fit), f"written: {folder / CALIBRATION_FILE}"]))
    return 0


def _live(folder: Path) -> int:
    from exo_twin.nodes.wearable_calibrator import calibrate_live

    twin = f"twin:={json.dumps(str(folder.resolve()))}"
    return calibrate_live(["wearable_calibrator", "--ros-args", "-p", twin])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m exo_twin", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="calibrate")
    sub = commands.add_parser(
        "calibrate",
        help="find encoder zeros and IMU rotations",
        description="Find where the hip encoders' zeros are and how the IMUs sit on their segments.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument("twin", type=Path, help="the wearer's twin")
    sub.add_argument("--bag", type=Path, help="a recording (rosbag2), not live")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
