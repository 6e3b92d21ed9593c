"""Every entry of models_catalog/: valid, reproducible from its config, true to what its publisher says."""

import json
from functools import cache
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from pdplan.architecture.model import Model
from pdplan.architecture.parameters import draft_parameters, parameters_active, parameters_total
from pdplan.catalog.hugging_face.config import model_from_config
from pdplan.catalog.hugging_face.entry import catalog_yaml

ROOT = Path(__file__).parents[1]
ENTRIES = sorted((ROOT / "models_catalog").glob("*.yaml"))
CONFIGS = [ROOT.parent / "shared" / "models", Path(__file__).parent / "hf_configs"]
ADDED_BY_HAND = {
    "hugging_face_ids",
    "aliases",
    "source",
    "date",
    "checkpoints",
    "published",
    "notes",
    "other_parameters",
}

# Parameter counts that Hugging Face shows for the safetensors of a repository, read on 2026-11-23 in
# public code: a checker of 2026-09-25 (index file 71142266638), a registry script (70911651117), a survey
# of expert models (69468411049), and those that an entry names. Beside each stands what the repository
# holds besides the layers and tables that the entry counts:
#   draft: the MTP modules; tables: their own copies of embedding and head; copy: tied tables stored twice.
EXACT: dict[str, tuple[int, str]] = {
    "llama-2-7b": (6738415616, ""),
    "llama-2-13b": (13015864320, ""),
    "llama-2-70b": (68976648192, ""),  # 27983699400
    "llama-3-8b": (8030261248, ""),
    "llama-3-70b": (70553706496, ""),
    "llama-3.1-8b": (8030261248, ""),
    "llama-3.2-1b": (1235814400, ""),
    "llama-3.2-3b": (3212749824, ""),
    "llama-3.3-70b": (70553706496, ""),
    "llama-4-scout": (108641793536, ""),
    "llama-4-maverick": (401583781376, ""),
    "mistral-7b": (7248023552, ""),
    "mixtral-8x7b": (46702792704, ""),
    "gemma-3-27b": (27009346304, ""),  # its language part
    "mixtral-8x22b": (140620634112, ""),
    "qwen2.5-0.5b": (494032768, ""),
    "qwen2.5-1.5b": (1543714304, ""),
    "qwen2.5-3b": (3085938688, ""),
    "qwen2.5-7b": (7615616512, ""),
    "qwen2.5-72b": (72706203648, ""),
    "qwen3-0.6b": (751632384, "copy"),
    "qwen3-1.7b": (2031739904, "copy"),
    "qwen3-8b": (8190735360, ""),
    "qwen3-32b": (32762123264, ""),
    "qwen3-30b-a3b": (30532122624, ""),
    "qwen3-235b-a22b": (235093634560, ""),
    "qwen3-coder-30b-a3b": (30532122624, ""),
    "qwen3-coder-480b-a35b": (480154875392, ""),
    "qwen3-next-80b-a3b": (79674391296, ""),  # Qwen3-Coder-Next: the same layers, no MTP module
    "qwen3-vl-2b": (2127532032, ""),
    "qwen3-vl-4b": (4437815808, ""),
    "qwen3-vl-8b": (8767123696, ""),
    "qwen3-vl-32b": (33357390064, ""),
    "qwen3-vl-30b-a3b": (31070754032, ""),
    "qwen3-vl-235b-a22b": (235670022896, ""),
    "qwen3.5-27b": (27781427952, "draft"),
    "qwen3.5-35b-a3b": (35951822704, "draft"),
    "qwen3.5-122b-a10b": (125086497008, "draft"),
    "qwen3.5-397b-a17b": (403397928944, "draft"),
    "qwen3.6-27b": (27781427952, "draft"),
    "qwen3.6-35b-a3b": (35951822704, "draft"),
    "deepseek-v2-lite": (15706484224, ""),
    "deepseek-r1": (684489845504, "draft tables"),
    "deepseek-v3.2": (685355329792, "draft tables"),
    "glm-4.5": (358337791296, "draft tables"),
    "glm-4.5-air": (110468824832, "draft tables"),
    "glm-4.6": (356785898816, "draft"),
    "glm-5": (753864139008, "draft"),
    "glm-5.1": (753864139008, "draft"),
    "glm-5.2": (753329940480, "draft"),
    "glm-5.3": (753329940480, "draft"),
    "minimax-m2.7": (228689764864, ""),
    "gpt-oss-20b": (20914757184, ""),
    "gpt-oss-120b": (116829156672, ""),
}
# As above, but for a few small tensors: counted here, not there, or the other way round.
CLOSE: dict[str, tuple[int, str, float]] = {
    "kimi-k2": (1026408235864, "", 1e-8),  # 3,416 more: biases of the router
    "nemotron-3-nano-30b-a3b": (31577937344, "", 1e-6),  # biases of the router, 23 x 128, are not in it
    "nemotron-3.5-lightning-30b-a3b": (31577937344, "", 1e-6),
    "nemotron-3-super-120b-a12b": (123611012096, "draft", 1e-6),  # 41 x 512 biases are not in it
    "deepseek-v4-flash": (290944616402, "draft", 2e-4),  # hyper-connections and scales are in it
    "deepseek-v4-pro": (1598839674782, "draft", 1e-4),
}


@cache
def load_yaml(path: Path) -> dict:
    return yaml.load(path.read_text(), yaml.CSafeLoader)


@cache
def load(path: Path) -> Model:
    return TypeAdapter(Model).validate_python(load_yaml(path))


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
    stored = load_yaml(path)
    config_id = stored["hugging_face_ids"][0]
    made = model_from_config(
        config_of(config_id), name=path.stem, hugging_face_id=config_id, source="", date=""
    )
    assert {k: v for k, v in made.items() if k not in ADDED_BY_HAND} == {
        k: v for k, v in stored.items() if k not in ADDED_BY_HAND
    }


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_entry_is_written_tidily(path):
    assert catalog_yaml(load_yaml(path)) == path.read_text()


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_counts_agree_with_the_publisher(path):
    entry = load(path)
    if entry.published is None:
        pytest.skip("no published count was found, see the notes of the entry")
    said = entry.published
    # Within 1 %, or within the rounding of the publisher's own figure, which `tolerance` states.
    assert parameters_total(entry) == pytest.approx(said.parameters_total, rel=said.tolerance)
    if said.parameters_active is not None:
        active = parameters_active(entry, said.active_counts)
        assert active == pytest.approx(said.parameters_active, rel=said.tolerance)


def stored_parameters(entry: Model, parts: str) -> int:
    """What a repository of the model holds: the entry's own count and the parts."""
    table = entry.vocab_size * entry.hidden_size
    modules = entry.draft.modules if entry.draft else 0
    extra = {"draft": draft_parameters(entry), "tables": 2 * table * modules, "copy": table}
    return parameters_total(entry) + sum(extra[part] for part in parts.split())


@pytest.mark.parametrize("name", EXACT)
def test_counts_agree_exactly_with_safetensors(name):
    count, parts = EXACT[name]
    assert stored_parameters(load(ROOT / "models_catalog" / f"{name}.yaml"), parts) == count


@pytest.mark.parametrize("name", CLOSE)
def test_counts_agree_with_safetensors_but_for_small_tensors(name):
    count, parts, within = CLOSE[name]
    stored = stored_parameters(load(ROOT / "models_catalog" / f"{name}.yaml"), parts)
    assert stored == pytest.approx(count, rel=within)


def rounds_to(count: float, said: float) -> bool:
    """Whether a count is the figure that a publisher states: within 1 %, or rounded or cut to its digits.

    "37B" is stated to 1e9, "1.6T" to 1e11, "3.3B" to 1e8; a figure above 1e9 is not taken for coarser.
    """
    unit = 1e11 if said >= 1e12 else 1e9 if said % 1e9 == 0 else 1e8
    return abs(count / said - 1) <= 0.01 or abs(count - said) <= unit / 2 or 0 <= count - said < unit


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.stem)
def test_a_wider_tolerance_is_the_rounding_of_the_publisher(path):
    entry = load(path)
    said = entry.published
    if said is None:
        return
    assert rounds_to(parameters_total(entry), said.parameters_total), parameters_total(entry)
    if said.parameters_active is not None:
        active = parameters_active(entry, said.active_counts)
        assert rounds_to(active, said.parameters_active), active


def test_rounding_is_no_excuse_for_more():
    assert rounds_to(36.63e9, 37e9)
    assert rounds_to(3.353e9, 3.3e9)  # cut, not rounded
    assert not rounds_to(35.9e9, 37e9)
    assert not rounds_to(4.1e9, 3e9)


VISION_IN_TOTAL = sorted(path.stem for path in ENTRIES if load_yaml(path).get("other_parameters"))


@pytest.mark.parametrize("name", [n for n in VISION_IN_TOTAL if n.startswith("qwen")])
def test_the_vision_tower_follows_from_its_config(name):
    """Patches, positions, blocks and mergers of Qwen's vision transformer, as transformers builds them."""
    stored = load_yaml(ROOT / "models_catalog" / f"{name}.yaml")
    config = config_of(stored["hugging_face_ids"][0])
    if "vision_config" not in config:
        pytest.skip("this repository's config has no vision_config (a quantised copy)")
    v = config["vision_config"]
    h, inner, out = v["hidden_size"], v["intermediate_size"], v["out_hidden_size"]
    merged = v["spatial_merge_size"] ** 2 * h
    patch = v["in_channels"] * v["temporal_patch_size"] * v["patch_size"] ** 2
    block = 4 * h + (h * 3 * h + 3 * h) + (h * h + h) + (h * inner + inner) + (inner * h + h)
    merger = (merged * merged + merged) + (merged * out + out)
    tower = (patch * h + h) + v["num_position_embeddings"] * h + v["depth"] * block + (2 * h + merger)
    tower += len(v["deepstack_visual_indexes"]) * (2 * merged + merger)
    assert stored["other_parameters"] == tower


def test_no_two_entries_share_a_repository():
    ids = [i for path in ENTRIES for i in load(path).hugging_face_ids]
    assert len(ids) == len(set(ids))
