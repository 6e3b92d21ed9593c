"""Every entry of models_catalog/: valid, reproducible from its config, true to what its publisher says."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from pdplan.architecture.model import Model
from pdplan.architecture.parameters import parameters_active, parameters_total
from pdplan.catalog.hf_config import model_from_config
from pdplan.catalog.hf_yaml import catalog_yaml

ROOT = Path(__file__).parents[1]
ENTRIES = sorted((ROOT / "models_catalog").glob("*.yaml"))
CONFIGS = [ROOT.parent / "shared" / "models", Path(__file__).parent / "hf_configs"]
ADDED_BY_HAND = {
    "hugging_face_ids",
    "source",
    "date",
    "checkpoints",
    "published",
    "notes",
    "other_parameters",
}

# Parameter counts that Hugging Face shows for the safetensors of each repository,
# as listed in a public checker of 2026-09-25 (KNOWN_MODELS: "verified"), read 2026-11-23.
EXACT = {
    "llama-3.1-8b": 8030261248,
    "llama-3.2-1b": 1235814400,
    "llama-3.2-3b": 3212749824,
    "llama-3.3-70b": 70553706496,
    "mistral-7b": 7248023552,
    "qwen2.5-0.5b": 494032768,
    "qwen2.5-1.5b": 1543714304,
    "qwen2.5-3b": 3085938688,
    "qwen2.5-7b": 7615616512,
    "qwen3-8b": 8190735360,
    "qwen3-32b": 32762123264,
    "minimax-m2.7": 228689764864,
    "gpt-oss-20b": 20914757184,
    "gpt-oss-120b": 116829156672,
}


def load(path: Path) -> Model:
    return TypeAdapter(Model).validate_python(yaml.safe_load(path.read_text()))


def config_of(hugging_face_id: str) -> dict:
    for folder in CONFIGS:
        path = folder / f"{hugging_face_id.replace('/', '--')}.json"
        if path.exists():
            return json.loads(path.read_text())
    pytest.skip(f"no config of {hugging_face_id}: ../shared/models is not here")


def test_there_are_enough():
    assert len(ENTRIES) >= 45


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_entry_is_valid_and_named_after_its_file(path):
    entry = load(path)
    assert entry.name == path.stem == path.stem.lower()
    assert entry.source.startswith("https://")
    assert entry.checkpoints
    assert path.read_text().startswith(f"# {entry.source}\n")


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_entry_is_what_its_config_says(path):
    stored = yaml.safe_load(path.read_text())
    config_id = stored["hugging_face_ids"][0]
    made = model_from_config(
        config_of(config_id), name=path.stem, hugging_face_id=config_id, source="", date=""
    )
    assert {k: v for k, v in made.items() if k not in ADDED_BY_HAND} == {
        k: v for k, v in stored.items() if k not in ADDED_BY_HAND
    }


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_entry_is_written_tidily(path):
    assert catalog_yaml(yaml.safe_load(path.read_text())) == path.read_text()


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_counts_agree_with_the_publisher(path):
    entry = load(path)
    if entry.published is None:
        pytest.skip("no published count found")
    said = entry.published
    # Within 1 %, or within the rounding of the publisher's own figure, which `tolerance` states.
    assert parameters_total(entry) == pytest.approx(said.parameters_total, rel=said.tolerance)
    if said.parameters_active is not None:
        active = parameters_active(entry, said.active_counts)
        assert active == pytest.approx(said.parameters_active, rel=said.tolerance)


@pytest.mark.parametrize(("name", "count"), EXACT.items())
def test_counts_agree_exactly_with_safetensors(name, count):
    assert parameters_total(load(ROOT / "models_catalog" / f"{name}.yaml")) == count


def test_no_two_entries_share_a_repository():
    ids = [i for path in ENTRIES for i in load(path).hugging_face_ids]
    assert len(ids) == len(set(ids))
