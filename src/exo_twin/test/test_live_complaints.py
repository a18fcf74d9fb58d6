from __future__ import annotations

from exo_twin.live.complaints import Announcer

S = 1_000_000_000


def test_a_complaint_is_said_as_it_begins_and_as_it_is_over() -> None:
    announcer = Announcer()
    assert announcer.step(0, ["a", "b", "a"]) == (("a", "b"), ())
    assert announcer.step(S, ["b"]) == ((), ())
    assert announcer.step(2 * S, ["a", "b"]) == ((), ()), "it flickers"
    assert announcer.step(4 * S, ["b"]) == ((), ())
    assert announcer.step(4 * S + 1, ["b"]) == ((), ("a",))
    assert announcer.step(5 * S, ["a", "b"]) == (("a",), ()), "it is back"


def test_a_clock_set_back_ends_what_was_said() -> None:
    announcer = Announcer()
    announcer.step(100 * S, ["a"])
    assert announcer.step(0, []) == ((), ("a",))
