"""When a complaint is worth saying: once as it begins, once as it is over, however it flickers between."""

from __future__ import annotations

from collections.abc import Iterable

from exo_common.clock import NS_PER_S

# A complaint that was not heard for so long is over.
OVER_S = 2.0


class Announcer:
    """Follows the complaints of every tick."""

    def __init__(self) -> None:
        self._heard: dict[str, int] = {}

    def step(self, now_ns: int, complaints: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Sentences that begin now, and those that are over now."""
        present = tuple(dict.fromkeys(complaints))
        begun = tuple(sentence for sentence in present if sentence not in self._heard)
        self._heard.update(dict.fromkeys(present, now_ns))
        # Either way, for a clock that was set back.
        over = tuple(said for said, last_ns in self._heard.items() if abs(now_ns - last_ns) > OVER_S * NS_PER_S)
        for sentence in over:
            del self._heard[sentence]
        return begun, over
