"""What README.md says: its programs run, and the files of its tree exist."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(program: str) -> dict:
    names: dict = {"__name__": "readme"}
    exec(compile(program, "README.md", "exec"), names)
    return names


def test_the_quick_start_learns_the_digits():
    assert run(PROGRAMS[0])["accuracy"] > 0.9


@pytest.mark.parametrize("program", PROGRAMS[1:], ids=lambda program: program.strip().splitlines()[-1])
def test_programs_run(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(program)
    if "same" in names:
        x = np.zeros((2, 32, 32, 3))
        outputs, same = (names[model].predict(x) for model in ("model", "same"))
        assert outputs.keys() == same.keys()
        assert all((outputs[name] == same[name]).all() for name in outputs)


def test_the_tree_names_files_that_exist():
    tree = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    names = re.findall(r"[\w/-]+\.(?:pyx|py|md)\b", tree)
    files = [str(path.relative_to(ROOT.parent)) for name in ("fastcnn", "docs", "tests") for path in
             (ROOT / name).rglob("*")] + [f"{ROOT.name}/setup.py"]
    assert len(names) > 60
    assert [name for name in names if not any(file.endswith(f"/{name}") for file in files)] == []
