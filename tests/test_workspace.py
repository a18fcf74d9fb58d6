"""The set-up does only what changed, resumes where it stopped, and explains what is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import workspace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def space(tmp_path: Path) -> workspace.Workspace:
    (tmp_path / ".exo" / "stamps").mkdir(parents=True)
    (tmp_path / "run.lock").write_text("a==1\n")
    return workspace.Workspace(str(tmp_path))


def test_a_step_runs_again_only_when_its_inputs_change(space: workspace.Workspace) -> None:
    runs: list[int] = []

    def step() -> None:
        space._step("run", ["run.lock"], lambda: runs.append(1))

    step()
    step()
    assert len(runs) == 1
    (Path(space.root) / "run.lock").write_text("a==2\n")
    step()
    assert len(runs) == 2


def test_an_interrupted_step_runs_again(space: workspace.Workspace) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        space._step("run", ["run.lock"], interrupted)
    runs: list[int] = []
    space._step("run", ["run.lock"], lambda: runs.append(1))
    assert runs == [1]


def test_a_new_python_environment_starts_builds_and_stamps_anew(
    space: workspace.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(space.home)
    for name in ("build", "install"):
        (home / name).mkdir()
    (home / "stamps" / "build").write_text("from another place")
    monkeypatch.setattr(space, "_call", lambda *_: None)
    space._create_venv()
    assert not (home / "build").exists() and not (home / "install").exists()
    assert list((home / "stamps").iterdir()) == []


def test_a_failing_tool_is_named_with_its_last_words(space: workspace.Workspace) -> None:
    with pytest.raises(workspace.SetupError, match=r"'bash' failed in set-up step 'run'(.|\n)*no such wheel"):
        space._call(["bash", "-c", "echo no such wheel; exit 1"], "run")


def test_the_small_and_the_large_pose_model_are_only_nice_to_have(
    space: workspace.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(space, "_call", lambda command, *_: calls.append(command))
    space._fetch_weights({})
    wanted = calls[0][calls[0].index(str(Path(space.home) / "weights")) + 1 :]
    assert wanted == ["full", "--if-possible", "lite", "--if-possible", "heavy"]


def test_missing_system_packages_become_one_command(
    space: workspace.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "SYSTEM_COMMANDS", {"no-such-compiler": "g++"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(workspace.shutil, "which", lambda name: None)
    with pytest.raises(workspace.SetupError, match=r"sudo apt-get install -y --no-install-recommends g\+\+"):
        space._system_packages()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "not a certified medical device"),
        (["demo", "--help"], 0, "--seconds"),
        (["demo", "--seconds", "5"], 2, "outside [20, 3600]"),
        (["bench", "nothing"], 2, "known benches are"),
        (["personalise", "/nowhere"], 2, "session.yaml is missing"),
        (["replay", "/nowhere"], 2, "/nowhere"),
        (["replay", "/nowhere", "--rate", "0"], 2, "--rate 0 is outside"),
        (["launch", "exo_bringup", "exo", "device:=hardware", "twin:=/t", "controller:=/c"], 2, "exo_hardware"),
        (["launch", "exo_bringup", "exo", "twin:=/t", "controller:=/c"], 1, "holds no twin"),
        (["fly"], 1, "there is no verb 'fly'"),
    ],
)
def test_the_command_line_answers_in_a_sentence(arguments: list[str], code: int, words: str) -> None:
    done = subprocess.run([str(ROOT / "exo"), *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert words.lower() in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr
