"""Shipped entries read without pydantic are what pydantic reads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pdplan.architecture.model import Model
from pdplan.catalog.accelerator import Accelerator
from pdplan.catalog.store import shipped_folder
from pdplan.catalog.trusted import DoubtError, build
from pdplan.documents.files import read_yaml
from pdplan.documents.validation import validate


@pytest.mark.parametrize(("kind", "class_"), [("model", Model), ("accelerator", Accelerator)])
def test_both_ways_agree_on_every_shipped_file(kind, class_):
    for path in sorted(shipped_folder(kind).glob("*.yaml")):
        document = read_yaml(path)
        strict, quick = validate(class_, document), build(class_, document.data)
        assert quick == strict, path
        assert repr(quick) == repr(strict), "1 is no 1.0"


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "7168"},
        {"hidden_size": True},
        {"hiden_size": 1},
        {"layers": {}},
        {"layers": [{"count": 1, "attention": {"kind": "nope"}}]},
        {"layers": [{"count": 1, "attention": {}}]},
        {"checkpoints": []},
        {"name": None},
        {"tie_embeddings": "yes"},
    ],
)
def test_whatever_is_not_plain_is_left_to_validation(change):
    data = read_yaml(shipped_folder("model") / "deepseek-r1.yaml").data
    with pytest.raises(DoubtError):
        build(Model, {**data, **change})
    with pytest.raises(DoubtError):
        build(Model, {k: v for k, v in data.items() if k != "layers"})


def test_an_answer_needs_no_pydantic():
    """The command line may load it all the same: typer 0.29 does, to convert flags."""
    code = (
        "import pdplan, sys;"
        "pdplan.recommend(model='llama-3.1-8b', hardware='h100', isl='1k', osl=64, rate=1);"
        "sys.exit('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
