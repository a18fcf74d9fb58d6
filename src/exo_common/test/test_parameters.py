"""A parameter is declared once and refuses what lies outside its declaration."""

import dataclasses

import pytest

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, from_mapping, parameter


@dataclasses.dataclass(frozen=True)
class Filter(Parameters):
    """A configuration as packages write them."""

    cutoff: float = parameter(6.0, "Hz", "cut-off frequency", minimum=0.5, maximum=20.0)
    order: int = parameter(2, "", "filter order", minimum=1, maximum=8)
    kind: str = parameter("low", "", "kind of filter", choices=("low", "high"))
    channels: list[str] = parameter([], "", "channels to filter")


def test_defaults_are_valid_and_integers_become_floats() -> None:
    assert Filter(cutoff=4).cutoff == 4.0
    assert isinstance(Filter(cutoff=4).cutoff, float)


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"cutoff": 50.0}, "outside"),
        ({"cutoff": float("nan")}, "finite"),
        ({"cutoff": "6"}, "type"),
        ({"order": True}, "type"),
        ({"channels": ["SOL_l", 3]}, r"type list\[str\]"),
        ({"kind": "band"}, "choose one of"),
        ({"cut_off": 6.0}, "unknown key 'cut_off'"),
    ],
)
def test_bad_values_name_the_key_and_the_cure(values: dict[str, object], cause: str) -> None:
    with pytest.raises(ExoError, match=cause) as caught:
        from_mapping(Filter, values, "filter.yaml")
    assert "filter.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_ros_parameters_come_from_the_same_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    rclpy = pytest.importorskip("rclpy")
    from rclpy.parameter import Parameter

    from exo_common.parameters import declare

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=81)
    try:
        node = rclpy.create_node(
            "filter",
            context=context,
            parameter_overrides=[Parameter("cutoff", value=3.0), Parameter("channels", value=["SOL_l"])],
        )
        assert declare(node, Filter) == Filter(cutoff=3.0, channels=["SOL_l"])
        range_ = node.describe_parameter("cutoff").floating_point_range[0]
        assert (range_.from_value, range_.to_value) == (0.5, 20.0)
    finally:
        rclpy.shutdown(context=context)
