"""Samples with a count each, cut where the count jumps."""

from __future__ import annotations

import numpy as np

from exo_emg.drivers.runs import readings


def test_each_run_has_its_own_count_samples_and_stamp() -> None:
    index = np.array([4, 5, 6, 10, 11, 20])
    made = readings(index, index[:, None].astype(float), 1_000_000_000, 1000.0)
    assert [(r.index, r.samples[:, 0].tolist()) for r in made] == [(4, [4, 5, 6]), (10, [10, 11]), (20, [20])]
    # Stamps belong to the last sample of each run: 14 ms, 9 ms and nothing before the last one.
    assert [r.stamp_ns for r in made] == [986_000_000, 991_000_000, 1_000_000_000]
