"""What is wrong with a bad channel, and what to do about it, in words."""

from __future__ import annotations

WORDS = {
    "nan": ("the device sent no numbers, as if unplugged", "plug the electrode in and record again"),
    "units": ("the numbers are beyond any amplifier's range", "give the unit they are in (V, mV or uV)"),
    "offset": (
        "a constant voltage of the electrodes leaves the amplifier's range",
        "give the amplifier's own range (full_scale_v)",
    ),
    "saturated": ("the signal was at the edge of the amplifier's range", "lower the gain or fix the electrode"),
    "flat": ("there is no signal, not even noise", "check cable and electrode"),
    "loose": ("drift and hum stand in place of fast signal, as of a lifting electrode", "fix it to cleaned skin"),
    "mains": ("mains hum is too large beside the muscle", "clean the skin, renew the reference, move cables away"),
    "artefact": ("the electrode or its cable moved, far more than the muscle gave", "tape electrode and cable"),
    "noisy": ("activity cannot be told from the noise", "clean the skin and place the electrode on the muscle's belly"),
    "crosstalk": ("more than half of its signal is a stronger channel's", "place the electrodes further apart"),
    "short": ("the recording is too short to judge it", "record at least one second"),
    "settling": ("samples were lost just before", "wait a second"),
}


def explain(name: str, reason: str) -> str:
    """One sentence on a bad channel: what was seen, and the cure."""
    what, cure = WORDS[reason]
    return f"{name} is not used: {what}; {cure}"
