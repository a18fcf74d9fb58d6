"""A generic model gets the mass shares of people, and keeps everything else."""

import pytest
from opensim_walk import generic_model

from exo_twin.inverse.models import load_model
from exo_twin.inverse.segment_masses import SHARES, share_masses


def masses(model):
    return {body.getName(): body.getMass() for body in model.getBodySet()}


@pytest.mark.parametrize("sex", ["female", "male", "unknown"])
def test_the_shares_are_people_s_and_the_total_stays(sex):
    model = load_model(generic_model().model)
    model.initSystem()
    before, first = masses(model), model.getBodySet().get("femur_l").get_inertia().get(0)
    share_masses(model, sex)
    after = masses(model)
    total = sum(after.values())
    assert total == pytest.approx(sum(before.values()))
    for stems, female, male in SHARES:
        wanted = {"female": female, "male": male}.get(sex, (female + male) / 2.0)
        for side in "lr":
            own = sum(after.get(f"{stem}_{side}", 0.0) for stem in stems)
            assert own == pytest.approx(wanted * total), stems
    assert after["pelvis"] / after["torso"] == pytest.approx(before["pelvis"] / before["torso"])
    grown = after["femur_l"] / before["femur_l"]
    assert model.getBodySet().get("femur_l").get_inertia().get(0) == pytest.approx(grown * first)
