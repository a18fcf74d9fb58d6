"""How a person's mass is shared among the segments, measured on people rather than taken from the generic model.

Generic models carry the shares of the few cadavers they were built from: the Rajagopal
family's feet weigh half as much again as living people's, its thighs a seventh less. What a
body needs from the ground fore and aft, and what a swinging leg needs from its hip, follow
the shares, and with the model's own they contradict force plates. The generic model gets people's before
it is scaled; scaling then keeps them.
"""

from __future__ import annotations

from typing import Any

from exo_common.frames import SIDES
from exo_twin.opensim_runtime import opensim

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
RULE = "shares of body mass by segment: de Leva 1996, by sex; head and trunk as in the generic model"


def share_masses(model: Any, sex: str = "unknown") -> None:
    """Share the mass of an initialised opensim.Model as in people, in place; its total stays, inertias follow masses.

    Parameters
    ----------
    sex : "female", "male", or anything else for the mean of both.
    """
    bodies = {body.getName(): body for body in model.getBodySet()}
    mass = {name: float(body.getMass()) for name, body in bodies.items()}
    total = sum(mass.values())
    factor: dict[str, float] = {}
    for stems, female, male in SHARES:
        share = {"female": female, "male": male}.get(sex, (female + male) / 2.0)
        for side in SIDES:
            own = [f"{stem}_{side}" for stem in stems if f"{stem}_{side}" in bodies]
            weight = sum(mass[name] for name in own)
            if weight > 0.0:
                factor |= dict.fromkeys(own, share * total / weight)
    left = total - sum(factor[name] * mass[name] for name in factor)
    trunk = sum(mass[name] for name in mass if name not in factor)
    for name, body in bodies.items():
        by = factor.get(name, left / trunk if trunk > 0.0 else 1.0)
        body.setMass(by * mass[name])
        stored = body.get_inertia()
        body.set_inertia(opensim.Vec6(*(by * float(stored.get(k)) for k in range(6))))
    model.initSystem()
