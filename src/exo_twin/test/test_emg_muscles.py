"""EMG channels beside the muscles of every model family, and the activations that envelopes ask for."""

from __future__ import annotations

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_emg.muscles import GROUP_CHANNELS, MUSCLES
from exo_twin.inverse.emg_muscles import GAINS, EmgMap, emg_targets, pooled_gain, shaped, without_silent
from exo_twin.inverse.muscle_names import muscles_of

TRUNK = {"erector_spinae", "rectus_abdominis", "external_oblique", "multifidus"}


def named(stems: str, sides: str) -> list[str]:
    return [f"{stem}_{side}" for side in sides for stem in stems.split()]


RAJAGOPAL = named(
    "addbrev addlong addmagDist addmagIsch addmagMid addmagProx bflh bfsh edl ehl fdl fhl gaslat gasmed glmax1 glmax2 "
    "glmax3 glmed1 glmed2 glmed3 glmin1 glmin2 glmin3 grac iliacus perbrev perlong piri psoas recfem sart semimem "
    "semiten soleus tfl tibant tibpost vasint vaslat vasmed",
    "rl",
)
GAIT2392 = named(
    "glut_med1 glut_med2 glut_med3 glut_min1 glut_min2 glut_min3 semimem semiten bifemlh bifemsh sar add_long add_brev "
    "add_mag1 add_mag2 add_mag3 tfl pect grac glut_max1 glut_max2 glut_max3 iliacus psoas quad_fem gem peri rect_fem "
    "vas_med vas_int vas_lat med_gas lat_gas soleus tib_post flex_dig flex_hal tib_ant per_brev per_long per_tert "
    "ext_dig ext_hal ercspn intobl extobl",
    "rl",
)
PLANAR = named("hamstrings bifemsh glut_max iliopsoas rect_fem vasti gastroc soleus tib_ant", "r")
EIGHTEEN = named("bfsh gasmed glmax2 psoas recfem semimem soleus tibant vasint", "r")


@pytest.mark.parametrize("model", [RAJAGOPAL, GAIT2392])
@pytest.mark.parametrize("channel", [f"{name}_l" for name in MUSCLES if name not in TRUNK] + list(GROUP_CHANNELS))
def test_every_channel_of_a_leg_finds_muscles_of_its_side(model, channel):
    found = muscles_of(channel, model)
    assert found
    assert {name[-1] for name in found} == {channel[-1]}


@pytest.mark.parametrize(
    ("channel", "model", "found"),
    [
        ("gluteus_maximus_r", RAJAGOPAL, {"glmax1_r", "glmax2_r", "glmax3_r"}),
        ("gluteus_medius_l", GAIT2392, {"glut_med1_l", "glut_med2_l", "glut_med3_l"}),
        ("biceps_femoris_r", GAIT2392, {"bifemlh_r"}),
        ("VAS_r", RAJAGOPAL, {"vasint_r", "vaslat_r", "vasmed_r"}),
        ("vastus_medialis_r", PLANAR, {"vasti_r"}),
        ("semitendinosus_r", PLANAR, {"hamstrings_r"}),
        ("HAM_r", EIGHTEEN, {"semimem_r"}),
        ("vastus_lateralis_r", EIGHTEEN, {"vasint_r"}),
        ("SOL_r", EIGHTEEN, {"soleus_r"}),
    ],
)
def test_which_muscles(channel, model, found):
    assert set(muscles_of(channel, model)) == found


@pytest.mark.parametrize(
    ("channel", "sentence"),
    [
        ("gluteus_medius_r", "no muscle for EMG channel 'gluteus_medius_r'.*leave the channel out"),
        ("erector_spinae_r", "no muscle for EMG channel"),
        ("soleus_l", "no muscle for EMG channel"),
        ("soleus", "names no side; call it soleus_l or soleus_r"),
        ("sloeus_r", "unknown; did you mean soleus"),
    ],
)
def test_what_cannot_be_mapped_is_told(channel, sentence):
    with pytest.raises(ExoError, match=sentence):
        muscles_of(channel, PLANAR)


def test_a_channel_that_the_model_lacks_costs_a_warning_and_not_the_others():
    found = EmgMap.of(["gluteus_medius_r", "soleus_r"], PLANAR)
    assert found.channels == ("soleus_r",)
    assert "gluteus_medius_r" in found.warnings[0]
    with pytest.raises(ExoError, match="twice"):
        EmgMap.of(["soleus_r", "soleus_r"], PLANAR)


def test_muscles_without_an_electrode_follow_the_nearest_that_has_one():
    emg = EmgMap.of(["vastus_medialis_r", "vastus_lateralis_r", "semitendinosus_r"], RAJAGOPAL)
    excitation = np.array([[0.2, 0.4, 0.6], [np.nan, 0.4, 0.6], [np.nan, np.nan, np.nan]])
    found = dict(zip(RAJAGOPAL, emg.activation(excitation).T, strict=True))
    np.testing.assert_allclose(found["vasmed_r"], [0.2, np.nan, np.nan])
    np.testing.assert_allclose(found["vasint_r"], [0.3, 0.4, np.nan])
    np.testing.assert_allclose(found["semimem_r"], [0.6, 0.6, np.nan])
    assert np.isnan(found["vasint_l"]).all()
    np.testing.assert_allclose(found["bflh_r"], found["semiten_r"])
    np.testing.assert_allclose(np.unique(emg.share.sum(axis=0).round(12)), [0.0, 1.0])
    np.testing.assert_allclose(found["glmed2_r"], found["vasint_r"])
    assert np.isnan(found["soleus_r"]).all()
    assert np.isnan(found["tibant_r"]).all()
    groups = EmgMap.of(["GAS_r", "GLU_l"], RAJAGOPAL).activation(np.array([[0.2, 0.3]]))[0]
    assert groups[RAJAGOPAL.index("soleus_r")] == pytest.approx(0.2)
    assert groups[RAJAGOPAL.index("glmed1_l")] == pytest.approx(0.3)
    assert np.isnan(groups[[RAJAGOPAL.index("soleus_l"), RAJAGOPAL.index("glmed1_r")]]).all()
    alone = EmgMap.of(["vastus_medialis_r"], RAJAGOPAL, followers=False).activation(np.array([[0.2]]))
    assert np.isfinite(alone).sum() == 1


def test_targets_come_after_delay_and_lag_scaled_and_inside_their_bounds():
    emg = EmgMap.of(["soleus_r"], EIGHTEEN)
    emg_time = np.arange(0.0, 1.0, 0.001)
    envelope = np.interp(emg_time, [0.3, 0.301, 0.6, 0.601], [0.0, 1.0, 1.0, 0.0])[:, None]
    time = np.arange(0.0, 1.1, 0.01)
    found = emg_targets(time, emg, emg_time, envelope, gain=0.5)[:, EIGHTEEN.index("soleus_r")]
    rise, fall = np.flatnonzero(np.diff((found > 0.25).astype(int)))
    assert 0.34 <= time[rise] <= 0.36
    assert 0.65 <= time[fall] <= 0.69
    assert np.nanmax(found) == pytest.approx(0.5, abs=1e-3)
    assert np.isnan(found[time < 0.039]).all()
    assert np.isnan(found[time > 1.04]).all()
    assert np.nanmax(emg_targets(time, emg, emg_time, envelope, gain=3.0)) == 1.0
    envelope[400:450] = np.nan
    gap = np.isnan(emg_targets(time, emg, emg_time, envelope)[:, EIGHTEEN.index("soleus_r")])
    assert gap[(time > 0.445) & (time < 0.485)].all()
    assert not gap[(time > 0.045) & (time < 0.435) | (time > 0.495) & (time < 1.0)].any()
    with pytest.raises(ExoError, match="share no time"):
        emg_targets(time + 5.0, emg, emg_time, envelope)


def test_one_gain_is_fitted_to_all_channels_together():
    emg = EmgMap.of(["soleus_r", "tibialis_anterior_r"], EIGHTEEN)
    phase = np.linspace(0.0, 2.0 * np.pi, 101)[:, None]
    target = np.full((101, len(EIGHTEEN)), np.nan)
    own = [EIGHTEEN.index("soleus_r"), EIGHTEEN.index("tibant_r")]
    target[:, own] = 0.5 + 0.5 * np.cos(phase - [0.0, 3.0])
    activation = 0.3 * np.nan_to_num(target)
    strength = np.ones(len(EIGHTEEN))
    assert pooled_gain(emg, target, activation, strength) == pytest.approx(0.3)
    assert pooled_gain(emg, target, 0.0 * activation, strength) == GAINS[0]
    assert pooled_gain(emg, np.full_like(target, np.nan), activation, strength) == 1.0


def test_shape_keeps_the_ends_and_lifts_what_lies_between():
    u = np.linspace(0.0, 1.0, 11)
    np.testing.assert_allclose(shaped(u, 0.0), u)
    bent = shaped(u, -3.0)
    np.testing.assert_allclose(bent[[0, -1]], [0.0, 1.0])
    assert (bent[1:-1] > u[1:-1]).all()


def test_silent_channels_are_named_and_left_out():
    envelope = np.column_stack([np.zeros(5), np.full(5, np.nan), np.full(5, 0.3)])
    found, warnings = without_silent(["soleus_r", "tibialis_anterior_r", "rectus_femoris_r"], envelope)
    assert np.isnan(found[:, :2]).all()
    assert np.isfinite(found[:, 2]).all()
    assert "soleus_r is zero throughout" in warnings[0]
    assert "tibialis_anterior_r holds no usable sample" in warnings[1]
