"""`python -m exo_emg calibrate <session>`: each muscle's EMG at full effort; `lsl-clock`: a sender's clock."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from exo_common.errors import ExoError
from exo_emg.assistant import REST_S, STRIDES
from exo_emg.calibration import CHAIN, DYNAMIC_PEAK, FILE, MVC
from exo_emg.processing import ChainConfig

EXPLANATION = f"""\
Live, with the EMG driver running: one muscle after the other is asked for an effort of 4 s against something that does
not give way (--mvc, the default), or the wearer walks until {STRIDES} strides are seen (--walking). An effort that was
not held, or a channel that is saturated, loose or full of hum, is refused with the reason and asked again. Everything
heard is recorded into <session>/emg_calibration/, also when you stop with Ctrl-C; what was accepted until then counts.
From files: --from mvc_soleus.csv mvc_tibialis.csv --unit mV, or --walking --from walk.c3d.
Writes <session>/{FILE}; muscles that are not calibrated anew keep their maximum."""


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code: 0 done, 1 some muscles were not calibrated, 2 bad input."""
    asked = _parser().parse_args(arguments)
    try:
        return int(asked.run(asked))
    except ExoError as error:
        print(f"exo_emg: {error}", file=sys.stderr)
        return 2


def _calibrate(asked: argparse.Namespace) -> int:
    return _live(asked) if asked.files is None else _files(asked)


def _lsl_clock(asked: argparse.Namespace) -> int:
    from exo_emg.lsl_clock import record_clock

    rows = record_clock(asked.stream, asked.file, asked.seconds)
    print(f"written: {asked.file} ({rows} exchanges); name it as 'reference' of sync: {{method: lsl}}")
    return 0


def _live(asked: argparse.Namespace) -> int:
    from exo_emg.nodes.emg_calibrator import calibrate_live

    if not (asked.session / "session.yaml").is_file():
        raise ExoError(f"{asked.session} holds no session.yaml; give the session's folder")
    values = {
        "session": str(asked.session.resolve()),
        "method": asked.method,
        "strides": asked.strides,
        "rest": asked.rest,
        **{name: getattr(asked, name) for name in CHAIN},
        **({"muscles": asked.muscles} if asked.muscles else {}),
    }
    parameters = [word for name, value in values.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    return calibrate_live(["emg_calibrator", "--ros-args", *parameters])


def _files(asked: argparse.Namespace) -> int:
    from exo_emg.calibrate import calibrate_files

    names = dict(entry.split("=", 1) for entry in asked.name)
    config = ChainConfig(**{name: getattr(asked, name) for name in CHAIN})
    found = calibrate_files(asked.session, asked.files, asked.method, asked.unit, names, asked.strides, config)
    for line in found.lines():
        print(line)
    print(f"written: {asked.session / FILE}")
    return int(bool(found.refused))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m exo_emg", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="calibrate | lsl-clock")
    sub = commands.add_parser(
        "calibrate",
        help="find each muscle's EMG at full effort",
        description="Find each muscle's EMG at full effort and write it into a session.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument("session", type=Path, help="a folder with session.yaml (of which only the wearer is needed)")
    how = sub.add_mutually_exclusive_group()
    how.add_argument(
        "--mvc", dest="method", action="store_const", const=MVC, help="held efforts, muscle by muscle (default)"
    )
    how.add_argument(
        "--walking", dest="method", action="store_const", const=DYNAMIC_PEAK, help="the robust peak of walking"
    )
    sub.set_defaults(method=MVC, run=_calibrate)
    sub.add_argument("--from", dest="files", type=Path, nargs="+", metavar="FILE", help="recorded files, not live")
    sub.add_argument("--unit", default="", choices=("", "V", "mV", "uV"), help="of the files, if they do not tell")
    sub.add_argument(
        "--name", action="append", default=[], type=_pair, metavar="LABEL=MUSCLE", help="of a file's channel"
    )
    sub.add_argument("--muscles", nargs="+", metavar="MUSCLE", help="ask for these only, in this order (live)")
    sub.add_argument("--strides", type=int, default=STRIDES, help=f"strides of walking (default: {STRIDES})")
    sub.add_argument("--rest", type=float, default=REST_S, metavar="S", help="rest before a repeated effort")
    for field in dataclasses.fields(ChainConfig):
        if field.name in CHAIN:
            about = f"{field.metadata['description']}, {field.metadata['unit']} (default: {field.default})"
            option = f"--{field.name.replace('_', '-')}"
            sub.add_argument(option, type=type(field.default), default=field.default, help=about)
    clock = commands.add_parser("lsl-clock", help="write down how an LSL sender's clock differs from this machine's")
    clock.add_argument("stream", help="name of the stream")
    clock.add_argument("file", type=Path, help="table to write or to add to (.csv)")
    clock.add_argument("--seconds", type=float, default=60.0, help="for how long (default: 60); Ctrl-C ends it as well")
    clock.set_defaults(run=_lsl_clock)
    return parser


def _pair(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"'{text}' is not LABEL=MUSCLE")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
