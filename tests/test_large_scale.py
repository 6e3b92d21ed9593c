"""Predictions beside published large deployments, on none of which a constant was fitted."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / "shared" / "published" / "disaggregation_results.csv"
FEW_SEQUENCES = "cm384-decode-15ms-4096-256"
"""Eight sequences on an NPU that no kernel table knows: its kernels' starts are those of another maker's."""


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "published_deployments", ROOT / "benchmarks" / "large_scale" / "published.py"
    )
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def test_published_deployments_are_met_within_a_third(module: ModuleType) -> None:
    """Half of what can be read within 11 %, all but one within a third; every entry of the file is read."""
    if not PUBLISHED.exists():
        pytest.skip("the published deployments are not here")
    found = list(module.published_deployments(PUBLISHED))
    assert len(found) == 33
    ratios = {d.name: d.ratio for d in found if d.ratio is not None}
    assert len(ratios) == 23
    assert ratios.pop(FEW_SEQUENCES) == pytest.approx(0.65, abs=0.15)
    values = np.array(list(ratios.values()))
    assert np.all((values > 0.67) & (values < 1.34)), ratios
    assert np.median(np.abs(values - 1)) < 0.11
    assert 0.88 < np.median(values) < 1.08


def test_the_page_shows_what_is_predicted(module: ModuleType) -> None:
    """docs/accuracy.md, but for what a refit of the constants moves."""
    if not PUBLISHED.exists():
        pytest.skip("the published deployments are not here")
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| ([\w-]+) \| \d+ \| .* \| (\d\.\d\d) \|$", page, flags=re.MULTILINE))
    found = {d.name: d.ratio for d in module.published_deployments(PUBLISHED) if d.ratio is not None}
    assert shown.keys() == found.keys()
    for name, ratio in found.items():
        assert float(shown[name]) == pytest.approx(ratio, abs=0.05), name


def test_every_reading_says_what_it_assumes(module: ModuleType) -> None:
    if not PUBLISHED.exists():
        pytest.skip("the published deployments are not here")
    for deployment in module.published_deployments(PUBLISHED):
        assert len(deployment.remark) >= len("nothing"), deployment.name
