"""One real demo, run once, for every whole-system test that needs its artefacts or its bag."""

import pytest
from whole_system import Demo, run_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished demo on the real video."""
    return run_demo(tmp_path_factory.mktemp("demo"))
