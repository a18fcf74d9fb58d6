"""MuJoCo tendons whose length and moment arms follow a path polynomial.

A tendon is a sum of straight strands between two sites on different segments,
each strand behind its own pulley (MuJoCo divides its length and its share of
the force by the divisor), like the several bellies of a merged group. The sites'
places and the divisors are fitted; a constant length difference is absorbed by
the muscle's slack length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from exo_twin.forward.compiler.path_fit import PathPolynomial

FloatArray = NDArray[np.float64]

# Direction of positive rotation in the (x, z) plane, counter-clockwise seen from the right: hip and ankle +, knee -.
TURN = {"hip_flexion": 1.0, "knee_angle": -1.0, "ankle_angle": 1.0}
SITE_REACH = 0.3  # m, farthest place of a site from its joint
SITE_NEAREST = 0.005  # m, nearest, in the first guesses
DIVISORS = (0.4, 10.0)
FIT_POINTS = {1: 33, 2: 11}  # per coordinate
STARTS = 6
GOOD_ENOUGH = 0.8e-3  # m, moment-arm RMSE at which no further start is tried
LENGTH_WEIGHT = 0.3  # length errors count less: moment arms make the torque
SPREAD_WEIGHT = 2e-5  # m of residual per m of site distance: keeps sites near the joint when the fit does not care


@dataclasses.dataclass(frozen=True)
class Strand:
    """One straight piece from a site on a proximal segment to one on a distal segment.

    Attributes
    ----------
    proximal, distal : index of the segment counted along the crossed joints (0 = above the first).
    start : (2,) m, (x, z) in the proximal segment, from the joint below it.
    end : (2,) m, (x, z) in the distal segment, from the joint above it.
    divisor : its length and force share are divided by this.
    """

    proximal: int
    distal: int
    start: FloatArray
    end: FloatArray
    divisor: float


@dataclasses.dataclass(frozen=True)
class Tendon:
    """Fitted strands and the length (m) to add to theirs to get OpenSim's path length."""

    strands: tuple[Strand, ...]
    offset: float

    def evaluate(self, chain: Chain, poses: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Tendon length (n,) without the offset and moment arms (n, k), m."""
        rows = np.array([[*s.start, *s.end, s.divisor] for s in self.strands])
        return _strands(chain, poses, [(s.proximal, s.distal) for s in self.strands], rows)


@dataclasses.dataclass(frozen=True)
class Chain:
    """The joints a group crosses.

    Attributes
    ----------
    turns : (k,) +1 or -1, sign of the coordinate in the (x, z) plane.
    link : (2,) m, second joint in the frame of the segment between (zero for one-joint muscles).
    """

    turns: FloatArray
    link: FloatArray


def fit_tendon(chain: Chain, path: PathPolynomial, ranges: FloatArray, seed: int = 0) -> Tendon:
    """Fit strands to a path polynomial over `ranges` (k, 2) rad; several starts, the best kept."""
    k = len(ranges)
    axes = [np.linspace(low, high, FIT_POINTS[k]) for low, high in ranges]
    poses = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    length, arms = path.evaluate(poses)
    spans = [(0, 1), (0, 1)] if k == 1 else [(0, 1), (0, 1), (1, 2), (1, 2), (0, 2)]
    rng = np.random.default_rng(seed)
    best_error, best = np.inf, np.zeros(0)
    lower = np.tile([-SITE_REACH] * 4 + [DIVISORS[0]], len(spans))
    upper = np.tile([SITE_REACH] * 4 + [DIVISORS[1]], len(spans))
    objective = _objective(chain, poses, spans, length, arms)
    for _ in range(STARTS):
        start = np.column_stack([_guess(rng, len(spans), 4), np.full(len(spans), 2.0 if k == 1 else 3.0)]).ravel()
        fit = least_squares(objective, np.clip(start, lower, upper), bounds=(lower, upper), max_nfev=150, x_scale=0.05)
        error = float(np.sqrt(np.mean((_strands(chain, poses, spans, fit.x.reshape(-1, 5))[1] - arms) ** 2)))
        if error < best_error:
            best_error, best = error, fit.x
        if best_error < GOOD_ENOUGH:
            break
    rows = best.reshape(-1, 5)
    strands = tuple(Strand(*span, row[:2], row[2:4], float(row[4])) for span, row in zip(spans, rows, strict=True))
    return Tendon(strands, float(np.mean(length - _strands(chain, poses, spans, rows)[0])))


def _guess(rng: np.random.Generator, strands: int, width: int) -> FloatArray:
    places = rng.normal(0.0, 0.05, (strands, width))
    return places + np.sign(places) * SITE_NEAREST


def _objective(
    chain: Chain, poses: FloatArray, spans: list[tuple[int, int]], length: FloatArray, arms: FloatArray
) -> Callable[[FloatArray], FloatArray]:
    def residual(x: FloatArray) -> FloatArray:
        rows = x.reshape(-1, 5)
        own_length, own_arms = _strands(chain, poses, spans, rows)
        off = own_length - length
        scale = 1.0 / np.sqrt(len(poses))
        return np.concatenate(
            [
                LENGTH_WEIGHT * scale * (off - off.mean()),
                scale * (own_arms - arms).ravel(),
                SPREAD_WEIGHT * rows[:, :4].ravel(),
            ]
        )

    return residual


def _strands(
    chain: Chain, poses: FloatArray, spans: list[tuple[int, int]], rows: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum of the strands' lengths (n,) and their moment arms (n, k); `rows` (strands, 5): start, end, divisor."""
    n, k = poses.shape
    length, arms = np.zeros(n), np.zeros((n, k))
    turned = chain.turns * poses
    for (proximal, distal), row in zip(spans, rows, strict=True):
        end = np.broadcast_to(row[2:4], (n, 2))
        levers: dict[int, FloatArray] = {}  # joint -> end seen from that joint, in the frame above it
        for joint in range(distal - 1, proximal - 1, -1):
            end = _turn(turned[:, joint], end)
            for inner in levers:
                levers[inner] = _turn(turned[:, joint], levers[inner])
            levers[joint] = end
            if joint > proximal:
                end = end + chain.link
        strand = end - row[:2]
        distance = np.sqrt((strand**2).sum(axis=1) + 1e-12)
        length += distance / row[4]
        for joint, lever in levers.items():
            # dL/dq = direction . (d end / dq), and turning moves the end by the lever turned a quarter.
            slope = (strand[:, 1] * lever[:, 0] - strand[:, 0] * lever[:, 1]) / distance
            arms[:, joint] -= chain.turns[joint] * slope / row[4]
    return length, arms


def _turn(angle: FloatArray, point: FloatArray) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * point[:, 0] - s * point[:, 1], s * point[:, 0] + c * point[:, 1]], axis=1)
