"""The one error type that reaches a person."""

from __future__ import annotations


class ExoError(Exception):
    """A failure a person can act on: one sentence naming the cause and the cure.

    Entry points (the `exo` verbs, the nodes' `main`) print it without a
    traceback and exit with code 2; anything else is a defect and keeps its traceback.
    """
