"""Finding accelerators and models: by which names, in which order, and what a broken file breaks."""

from __future__ import annotations

import os

import pytest

from pdplan.catalog import store
from pdplan.catalog.store import Catalog
from pdplan.errors import CatalogError, InputError, UnknownNameError

ACCELERATOR = """\
name: {name}
full_name: A test part
vendor: Acme
generation: acme-1
aliases: [{aliases}]
confidence: low
sources:
  sheet: {{title: Data sheet, reference: page 1, date: "2026-01-01"}}
peak_flop_per_s:
  bf16: {{value: {peak}, source: sheet}}
memory:
  capacity_bytes: {{value: 80e9, source: sheet}}
  usable_bytes: {{value: 79e9, source: sheet}}
  bandwidth_bytes_per_s: {{value: 2e12, source: sheet}}
accelerators_per_node: 8
"""

MODEL = """\
name: {name}
hugging_face_ids: [{ids}]
source: hand-written
date: "2026-01-01"
hidden_size: 64
vocab_size: 100
tie_embeddings: false
max_context: 4096
layers:
  - count: 2
    attention: {{kind: gqa, heads: 4, kv_heads: 2, head_dim: 16}}
    feed_forward: {{kind: dense, intermediate_size: 128}}
checkpoints:
  bf16: {{attention: bf16, dense: bf16, experts: bf16, shared: bf16, source: hand-written}}
"""


def accelerator(name, aliases="", peak="1e15"):
    return ACCELERATOR.format(name=name, aliases=aliases, peak=peak)


def model(name, ids=""):
    return MODEL.format(name=name, ids=ids)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A tiny shipped catalog in place of the real one."""
    folders = {"accelerator": tmp_path / "shipped/hw", "model": tmp_path / "shipped/models"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    monkeypatch.setattr(store, "shipped_folder", folders.__getitem__)
    monkeypatch.delenv(store.ENVIRONMENT_VARIABLE, raising=False)
    hardware, models = folders["accelerator"], folders["model"]
    (hardware / "x100.yaml").write_text(accelerator("x100", "x100-sxm"))
    (hardware / "x200.yaml").write_text(accelerator("x200"))
    (models / "deep-1.yaml").write_text(model("deep-1", "acme-ai/Deep-1, acme-ai/Deep-1-Chat"))
    (models / "odd-file.yaml").write_text(model("tiny", "acme-ai/Tiny"))
    return folders


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["x100", "X100", " x100 ", "x100-sxm", "X100 SXM", "x100_SXM"])
def test_an_accelerator_by_name_and_alias_in_any_case(shipped, name):
    assert Catalog().accelerator(name).name == "x100"


@pytest.mark.parametrize(
    "name", ["deep-1", "Deep-1", "acme-ai/Deep-1", "ACME-AI/deep-1", "acme-ai/Deep-1-Chat", "deep-1-chat"]
)
def test_a_model_by_name_and_hugging_face_id(shipped, name):
    assert Catalog().model(name).name == "deep-1"


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        # as InferenceX's tables and scripts write them
        ("dsr1", "deepseek-r1"),
        ("gptoss", "gpt-oss-120b"),
        ("minimaxm2.5", "minimax-m2.5"),
        ("kimik2.5", "kimi-k2.5"),
        ("glm5", "glm-5"),
        ("qwen3.5", "qwen3.5-397b-a17b"),
        # as their publishers, and those who quantise them, do
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("amd/DeepSeek-R1-0528-MXFP4-Preview", "deepseek-r1"),
        ("amd/Kimi-K2.5-MXFP4", "kimi-k2.5"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507-FP8", "qwen3-235b-a22b"),
        ("LLAMA3.1_70B", "llama-3.1-70b"),
    ],
)
def test_a_model_by_what_tables_and_publishers_call_it(name, entry):
    assert Catalog().model(name).name == entry


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),  # as nvidia-smi prints it
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("gb300-nv", "gb300"),  # machines of InferenceX
        ("h200-dgxc-slurm", "h200"),
        ("mi325x-amds", "mi325x"),
    ],
)
def test_an_accelerator_by_what_drivers_and_tables_call_it(name, entry):
    assert Catalog().accelerator(name).name == entry


@pytest.mark.parametrize("name", ["kimi-k9", "deepseek", "Qwen3", "llama-3.1", "gemma"])
def test_a_family_is_no_model(name):
    with pytest.raises(UnknownNameError):
        Catalog().model(name)


def test_a_file_may_have_another_name_than_its_entry(shipped):
    assert Catalog().model("tiny").name == "tiny"
    assert Catalog().model("acme-ai/tiny").name == "tiny"


def test_another_organisation_is_another_model(shipped):
    with pytest.raises(UnknownNameError, match="did you mean 'acme-ai/Deep-1'"):
        Catalog().model("bcme-ai/Deep-1")


@pytest.mark.parametrize("name", ["", "  ", "zzz", "x", "x10", "name:", "/", "../x100", "\n", "x100\0"])
def test_an_unknown_name(shipped, name):
    with pytest.raises(UnknownNameError, match="unknown accelerator"):
        Catalog().accelerator(name)


def test_suggestions_over_names_and_aliases(shipped):
    with pytest.raises(UnknownNameError) as caught:
        Catalog().accelerator("x100-sxn")
    assert caught.value.suggestions[0] == "x100-sxm"
    with pytest.raises(UnknownNameError) as caught:
        Catalog().model("deeep1")
    assert "deep-1" in [s.casefold() for s in caught.value.suggestions]


def test_a_lookup_by_name_reads_one_file(shipped, monkeypatch):
    read = []
    original = store.read_bytes
    monkeypatch.setattr(store, "read_bytes", lambda path: read.append(path.name) or original(path))
    catalog = Catalog()
    catalog.accelerator("x200")
    catalog.model("acme-ai/Deep-1")
    catalog.model("deep-1")
    assert read == ["x200.yaml", "deep-1.yaml"]


@pytest.mark.parametrize("place", ["x100.yaml", "anything.yml", "hardware_catalog/x100.yaml"])
def test_the_users_entry_hides_the_shipped_one(shipped, mine, place):
    (mine / place).parent.mkdir(exist_ok=True)
    (mine / place).write_text(accelerator("x100", peak="2e15"))
    catalog = Catalog([mine])
    assert catalog.accelerator("X100").peak_flop_per_s["bf16"].value == 2e15
    assert [a.name for a in catalog.accelerators()] == ["x100", "x200"]
    assert catalog.accelerators()[0].peak_flop_per_s["bf16"].value == 2e15
    assert catalog.file_of(catalog.accelerator("x100")) == mine / place


def test_kinds_are_told_by_their_keys(shipped, mine):
    (mine / "a.yaml").write_text(accelerator("same"))
    (mine / "b.yaml").write_text(model("same"))
    catalog = Catalog([mine])
    assert type(catalog.accelerator("same")).__name__ == "Accelerator"
    assert type(catalog.model("same")).__name__ == "Model"


def test_folders_in_order_and_from_the_environment(shipped, mine, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (mine / "y1.yaml").write_text(accelerator("y1", peak="2e15"))
    (other / "y1.yaml").write_text(accelerator("y1", peak="3e15"))
    (other / "y2.yaml").write_text(accelerator("y2"))
    monkeypatch.setenv("PDPLAN_CATALOG", os.pathsep.join([str(other), ""]))
    catalog = Catalog([mine])
    assert catalog.accelerator("y1").peak_flop_per_s["bf16"].value == 2e15
    assert catalog.accelerator("y2").name == "y2"


def test_a_missing_folder_is_said(shipped, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Catalog([tmp_path / "nowhere"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Catalog([tmp_path / "file"])


def test_a_broken_file_breaks_only_its_own_name(shipped, mine):
    (mine / "broken.yaml").write_text("name: broken\nlayers: [x\n# x100 x200\n")
    (mine / "half.yaml").write_text(accelerator("half").replace("vendor", "vendr"))
    catalog = Catalog([mine])
    assert catalog.accelerator("x100").name == "x100"
    assert [a.name for a in catalog.accelerators()] == ["x100", "x200"]
    assert any("half.yaml:3:1: unknown key 'vendr'; did you mean 'vendor'?" in p for p in catalog.problems)
    for ask, name in ((catalog.model, "broken"), (catalog.accelerator, "half")):
        with pytest.raises(CatalogError) as caught:
            ask(name)
        assert f"{name}.yaml:" in str(caught.value)


def test_a_broken_file_that_holds_the_name_is_shown_if_nothing_else_answers(shipped, mine):
    (mine / "other.yaml").write_text("name: y7\npeak_flop_per_s: [\n")
    with pytest.raises(CatalogError, match=r"other\.yaml:3:1: not valid YAML"):
        Catalog([mine]).accelerator("y7")


def test_check_says_everything_at_once(shipped, mine):
    (mine / "one.yaml").write_text(accelerator("one", "shared-name"))
    (mine / "two.yaml").write_text(accelerator("two", "shared-name").replace("vendor", "vendr"))
    (mine / "three.yaml").write_text(accelerator("drei"))
    (mine / "four.yaml").write_text("a: [\n")
    (mine / "five.yaml").write_text("a: 1")
    (mine / "x100.yaml").write_text(accelerator("x100"))  # hides a shipped one, which is fine
    found = [m.replace(f"{mine}/", "") for m in Catalog([mine]).check()]
    assert found[:-1] == [
        "five.yaml:1:1: has neither 'peak_flop_per_s' (of accelerators) nor 'layers' (of models); "
        "say what it describes, or move it",
        "four.yaml:2:1: not valid YAML: did not find expected node content while parsing a flow node; "
        "check indentation, colons and quotes here",
        "three.yaml:1:1: the name 'drei' differs from the file's; rename the file to 'drei.yaml'",
        "two.yaml:3:1: unknown key 'vendr'; did you mean 'vendor'?",
        "two.yaml:5:1: the name 'shared-name' is taken by one.yaml; choose another",
    ]
    assert found[-1].endswith("rename the file to 'tiny.yaml'")


def test_the_digest_depends_on_content_and_not_on_place(shipped, mine, tmp_path):
    first = Catalog()
    first.accelerator("x100")
    first.model("deep-1")
    second = Catalog()
    second.model("deep-1")
    second.accelerator("X100-SXM")
    assert first.digest() == second.digest()
    (mine / "copy.yaml").write_bytes((shipped["accelerator"] / "x100.yaml").read_bytes())
    third = Catalog([mine])
    third.model("deep-1")
    entry = third.accelerator("x100")
    assert third.digest() == first.digest()
    assert third.digest_of([entry]) != third.digest()
    second.accelerator("x200")
    assert second.digest() != first.digest()
    (mine / "copy.yaml").write_text(accelerator("x100", peak="9e14"))
    changed = Catalog([mine])
    assert changed.digest_of([changed.accelerator("x100")]) != third.digest_of([entry])


def test_the_shipped_catalogs_are_found_and_sound():
    catalog = Catalog(environment="")
    assert catalog.accelerator("H200").name == "h200"
    assert catalog.check() == []


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        (" heads: 32", " heads: -3", "12:28: 'heads' is -3; it must be at least 1"),
        ("count: 32", "count: 0", "11:5: 'count' is 0; it must be at least 1"),
        ("count: 32", "count: 1000000000", "'count' is 1000000000; it must be at most 10000"),
        ("hidden_size: 4096", "hidden_size: -1", "6:1: 'hidden_size' is -1; it must be at least 1"),
        ("vocab_size: 128256", "vocab_size: 0", "'vocab_size' is 0"),
        ("kv_heads: 8", "kv_heads: 5", "12:5: 32 query heads cannot share 5 KV heads evenly"),
        ("intermediate_size: 14336", "intermediate_size: 0", "'intermediate_size' is 0"),
    ],
)
def test_numbers_that_no_model_has_are_told_by_line(tmp_path, was, becomes, told):
    text = (store.shipped_folder("model") / "llama-3.1-8b.yaml").read_text()
    assert text.count(was) == 1
    path = tmp_path / "llama-3.1-8b.yaml"
    path.write_text(text.replace(was, becomes))
    with pytest.raises(CatalogError) as caught:
        Catalog([tmp_path], environment="").model("llama-3.1-8b")
    assert len(caught.value.messages) == 1
    assert told in caught.value.messages[0]
