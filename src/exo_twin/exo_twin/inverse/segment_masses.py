"""How a person's mass is shared among the segments, measured on people rather than taken from the generic model.

Generic models carry the shares of the few cadavers they were built from (the Rajagopal
family's feet weigh half as much again as living people's, its thighs a seventh less). What a
body needs from the ground, the sum of m (a - g), follows the shares: fore and aft
by a third. So the ground reaction is predicted with measured shares; the scaled
model itself keeps the generic's.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from exo_twin.inverse.body_inertia import BodyInertia

# Bodies of one side -> share of body mass, female and male (de Leva 1996, J Biomech 29:1223, table 4). Head and trunk
# take the rest, in the model's own proportions.
SHARES = (
    (("femur", "patella"), 0.1478, 0.1416),
    (("tibia",), 0.0481, 0.0433),
    (("talus", "calcn", "toes"), 0.0129, 0.0137),
    (("humerus",), 0.0255, 0.0271),
    (("ulna", "radius"), 0.0138, 0.0162),
    (("hand",), 0.0056, 0.0061),
)


def with_measured_shares(inertia: BodyInertia, sex: str = "unknown") -> BodyInertia:
    """The same body with its mass shared as in people; inertia tensors follow their body's mass.

    Parameters
    ----------
    sex : "female", "male", or anything else for the mean of both.
    """
    factor = np.ones(len(inertia.bodies))
    rest = np.ones(len(inertia.bodies), dtype=bool)
    left = inertia.total_mass
    for stems, female, male in SHARES:
        share = {"female": female, "male": male}.get(sex, (female + male) / 2.0)
        for side in ("_l", "_r"):
            own = np.isin(inertia.bodies, [stem + side for stem in stems])
            if own.any() and inertia.mass[own].sum() > 0.0:
                factor[own] = share * inertia.total_mass / inertia.mass[own].sum()
                rest &= ~own
                left -= share * inertia.total_mass
    factor[rest] = left / inertia.mass[rest].sum()
    return dataclasses.replace(inertia, mass=factor * inertia.mass, tensor=factor[:, None, None] * inertia.tensor)
