"""Documentation is tested: what pages show is what the commands print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pdplan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"```(?:text|console)\n\$ (pdplan[^\n]*)\n(.*?)```", re.S)


def shown(page: Path) -> list[tuple[str, str]]:
    """(command, output) of every block that shows one; blocks of several commands show none."""
    found = SHOWN.findall(page.read_text(encoding="utf-8"))
    return [(command, output) for command, output in found if not re.search(r"^\$ ", output, re.M)]


CASES = [(page, command) for page in PAGES for command, _ in shown(page)]


def run(command: str) -> str:
    words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=ROOT, check=False, timeout=180
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "command"), CASES, ids=[f"{p.name}: {c[:60]}" for p, c in CASES])
def test_what_a_page_shows_is_what_the_command_prints(
    page: Path, command: str, request: pytest.FixtureRequest
) -> None:
    real = run(command)
    if request.config.getoption("--update-golden"):
        text = page.read_text(encoding="utf-8")

        def renew(match: re.Match[str]) -> str:
            return match[0] if match[1] != command else f"```text\n$ {command}\n{real}```"

        page.write_text(SHOWN.sub(renew, text), encoding="utf-8")
    assert dict(shown(page))[command] == real, f"{page.name} is out of date: pytest --update-golden"


def test_the_readme_shows_the_question_that_it_tells_people_to_ask() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = re.search(r"<!-- ci: try -->\n```bash\n(.+?)```", text, re.S)
    assert told is not None
    asked = told[1].split("&&")[-1].replace("\\\n", " ").split()
    assert asked == shlex.split(shown(ROOT / "README.md")[0][0])


MEASURED = ROOT.parent / "shared" / "measured" / "train.csv"
BLOCK = re.compile(r"<!-- (\w+): begin -->\n.*?<!-- \1: end -->", re.S)


@pytest.mark.skipif(not MEASURED.exists(), reason="measured runs are not in this checkout")
def test_pages_tell_the_errors_that_validate_prints(request: pytest.FixtureRequest) -> None:
    """Their tables, from validate's own report and the cross-validation's file."""
    real = subprocess.run(
        [sys.executable, "benchmarks/accuracy.py", str(MEASURED)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout
    blocks = {m[1]: m[0] for m in BLOCK.finditer(real)}
    told = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        here = {m[1] for m in BLOCK.finditer(text)}
        renewed = BLOCK.sub(lambda m: blocks[m[1]], text)
        if request.config.getoption("--update-golden") and here:
            page.write_text(renewed, encoding="utf-8")
        assert page.read_text(encoding="utf-8") == renewed, f"{page.name}: pytest --update-golden"
        told |= here
    assert told == {"errors", "groups", "ttft", "coverage", "classes"}


def test_the_readme_tells_what_is_predicted_of_its_old_reference() -> None:
    """Within 5 %, so that a fit may move it a little before the sentence has to follow."""
    told = re.search(
        r"is predicted at (\d+) ms in the median and (\d+) ms in the mean for 54 measured "
        r"\(its TPOT: ([\d.]+) ms for 18.8\)",
        (ROOT / "README.md").read_text(encoding="utf-8"),
    )
    assert told is not None
    pool = {"hardware": "h100", "workers": 1, "tp": 4}
    plan = {"model": "llama-3.1-70b", "precision": "bf16", "colocated": pool}
    found = pdplan.evaluate(plan, isl=547, osl=248, rate=6)
    predicted = (found.ttft_p50_s, found.ttft_mean_s, found.tpot_mean_s)
    assert [float(n) for n in told.groups()] == pytest.approx([1e3 * s for s in predicted], rel=0.05)


def test_the_example_question_is_that_of_the_readme() -> None:
    assert run("pdplan recommend examples/question.yaml") == shown(ROOT / "README.md")[0][1]


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_that_pages_name_are_there() -> None:
    folders = ("pdplan", "benchmarks", "tests")
    files = {path.as_posix() for folder in folders for path in (ROOT / folder).glob("**/*.*")}
    told = re.compile(r"`([a-z_/]+\.py|pdplan/[a-z_/.]+\.[a-z]+)`")
    for page in PAGES:
        for name in told.findall(page.read_text(encoding="utf-8")):
            assert any(path.endswith(f"/{name}") for path in files), f"{page.name}: {name}"


def test_every_command_is_documented() -> None:
    listed = re.findall(r"^  ([a-z]+)  ", run("pdplan --help"), re.M)
    assert len(listed) >= 8
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in listed if f"`pdplan {name}" not in text] == []
