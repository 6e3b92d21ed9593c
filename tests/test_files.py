"""Reading and writing files: what is refused, where the message points, and that nothing is half-written."""

from __future__ import annotations

import json
import math
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdplan.documents import files
from pdplan.documents.files import parse_json, parse_yaml, read_json, read_text, read_yaml, write_atomic
from pdplan.errors import InputError


def refused(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


# ------------------------------------------------------------------------ text


def test_reads_text_without_byte_order_mark_and_with_plain_line_ends(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfname: \xc3\xa9\r\nb: 1\r\n")
    assert read_text(tmp_path / "a.yaml") == "name: é\nb: 1\n"


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "h200.yaml").write_text("a: 1")
    message = refused(read_text, tmp_path / "h20o.yaml")
    assert message == (f"{tmp_path}/h20o.yaml: there is no such file; did you mean '{tmp_path}/h200.yaml'?")
    assert "no such folder" in refused(read_text, tmp_path / "nowhere" / "x.yaml")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "plan.yaml").write_text("a: 1")
    assert f"this is a folder; give a file, for example '{tmp_path}/plan.yaml'" in refused(
        read_text, tmp_path
    )


def test_text_must_be_utf8(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"a: 1\nb: \xff")
    assert refused(read_text, tmp_path / "a.yaml").endswith(
        ":2:4: the file is not UTF-8 text; save it as UTF-8"
    )


def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    (tmp_path / "a.yaml").write_text("x" * 11)
    assert "larger than" in refused(read_text, tmp_path / "a.yaml")


def test_an_endless_file_is_refused():
    if os.path.exists("/dev/zero"):
        assert "larger than 16 MiB" in refused(read_text, "/dev/zero")


def test_a_path_with_a_null_byte_is_refused():
    assert "cannot be read" in refused(read_text, "a\0b")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything"
)
def test_no_permission(tmp_path):
    secret = tmp_path / "a.yaml"
    secret.write_text("a: 1")
    secret.chmod(0)
    assert "no permission" in refused(read_text, secret)
    tmp_path.chmod(0o500)
    assert "no permission" in refused(write_atomic, tmp_path / "b.yaml", "x")
    tmp_path.chmod(0o700)


# ------------------------------------------------------------------------ YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("989e12", 989e12),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("8.", 8.0),
        ("8", 8),
        ("1_000_000", 1_000_000),
        ("0x10", 16),
        ("0x_", "0x_"),
        ("-.", "-."),
        ("010", 10),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'8'", "8"),
        ('"null"', "null"),
        ("2025-01-01", "2025-01-01"),
        ("12:30:45", "12:30:45"),
        ("1.2.3", "1.2.3"),
        ("1" * 5000, "1" * 5000),
        ("|\n  8", "8"),
    ],
)
def test_scalars(text, value):
    found = parse_yaml(f"a: {text}", "x.yaml").data["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml:1:1: the file is empty"),
        ("# only a comment\n", "x.yaml:1:1: the file is empty"),
        ("- 1", "x.yaml:1:1: here is a list; expected keys and values"),
        ("hello", "x.yaml:1:1: here is text; expected keys and values"),
        (
            "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3",
            "x.yaml:5:3: the key 'c' is here a second time (first in line 3)",
        ),
        ("1: a\n1.0: b", "x.yaml:2:1: the key '1.0' is here a second time"),
        ("a: 1\n---\nb: 2", "x.yaml:3:1: a second document starts here"),
        ("a: !!python/object:os.system x", "x.yaml:1:4: the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !secret x", "the tag '!secret' is not allowed"),
        ("a: *b", "x.yaml:1:4: the alias '*b' has no anchor '&b' before it"),
        ("a: &b [*b]", "x.yaml:1:8: the alias '*b' has no anchor '&b' before it"),
        ("a: &b {c: 1}\nd:\n  <<: *b", "x.yaml:3:3: merge keys ('<<') are not supported"),
        ("? [a, b]\n: 1", "x.yaml:1:3: a key must be plain text"),
        ("a: 1\n\tb: 2", "x.yaml:2:1: not valid YAML"),
        ("a: 1\n\tb: 2", "indent with blanks, not tabs"),
        ("a: [1, 2", "not valid YAML"),
        ("a: b: c", "x.yaml:1:5: not valid YAML: mapping values are not allowed"),
        ("a: 'open", "not valid YAML"),
        ("%YAML 9.9\n---\na: 1", "not valid YAML"),
        ("a: 1\nb: \x00", "x.yaml:2:4: U+0000 is not allowed in YAML; remove it"),
    ],
)
def test_yaml_that_is_refused(text, message):
    assert message in refused(parse_yaml, text, "x.yaml")


def test_aliases_work_within_the_limit():
    assert parse_yaml("a: &x {b: [1, 2]}\nc: *x", "x.yaml").data["c"] == {"b": [1, 2]}


def test_an_alias_bomb_is_refused_quickly():
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "more than 200,000 values, aliases expanded" in refused(parse_yaml, "\n".join(lines), "x.yaml")


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_and_does_not_crash(opening):
    assert "nested more than 100 levels deep" in refused(parse_yaml, "a:\n  " + opening * 50_000, "x.yaml")


def test_where_finds_keys_items_and_parents():
    document = parse_yaml("a: 1\nb:\n  - c: 2\n    d: {e: 3}\n  - 4\n8: x\n", "x.yaml")
    assert document.where() == "x.yaml:1:1"
    assert document.where(("b",)) == "x.yaml:2:1"
    assert document.where(("b", 0, "d", "e")) == "x.yaml:4:9"
    assert document.where(("b", 1)) == "x.yaml:5:5"
    assert document.where(("b", 0, "missing")) == "x.yaml:3:5"
    assert document.where((8,)) == "x.yaml:6:1"
    assert document.where(("nowhere",)) == "x.yaml:1:1"


def test_the_python_parser_reads_the_same(monkeypatch):
    import yaml

    text = "a: 989e12\nb: [1, {c: 'x'}]\nd: &e {f: 1}\ng: *e\n"
    fast = parse_yaml(text, "x.yaml")
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    slow = parse_yaml(text, "x.yaml")
    assert (fast.data, fast.place) == (slow.data, slow.place)
    assert "U+0000" in refused(parse_yaml, "a: \x00", "x.yaml")


texts = st.text(st.characters(max_codepoint=0xD7FF), max_size=8)  # JSON escapes the others as surrogates
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_json_is_read_alike_by_both_readers(data):
    text = json.dumps(data)
    assert parse_json(text, "x").data == data
    if not any(word in text for word in ("Infinity", '"<<"')):
        assert parse_yaml(text, "x").data == data


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_an_input_error(text):
    for parse in (parse_yaml, parse_json):
        try:
            found = str(parse(text, "x").path)
        except InputError as problem:
            found = str(problem)
        assert found.startswith("x")


# ------------------------------------------------------------------------ JSON


def test_json_with_infinity_as_published_configs_have_it(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{\n\t"time_step_limit": [0.0, Infinity],\n  "x": {"y": 1}\n}')
    document = read_json(path)
    assert document.data["time_step_limit"] == [0.0, math.inf]
    assert document.where(("x", "y")) in (f"{path}:3:9", str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c.json:1:1: the file is empty"),
        ("[1]", "c.json:1:1: the file holds a list; expected a JSON object"),
        ('{"a": 1,\n}', "c.json:2:1: not valid JSON"),
        ('{"a": 1,\n "a": 2}', "c.json:2:2: the key 'a' is here a second time (first in line 1)"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "a number is too long"),
    ],
)
def test_json_that_is_refused(text, message):
    assert message in refused(parse_json, text, "c.json")


# ------------------------------------------------------------------------ writing


def test_writes_whole_files_and_keeps_their_mode(tmp_path):
    target = tmp_path / "plan.yaml"
    write_atomic(target, "a: 1\n")
    assert read_yaml(target).data == {"a": 1}
    target.chmod(0o640)
    write_atomic(target, "a: 2\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path):
    (tmp_path / "plain").write_text("x")
    write_atomic(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_failure_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    target = tmp_path / "plan.yaml"
    target.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "cannot be written: No space left on device" in refused(write_atomic, target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.yaml"]


def test_writing_where_one_cannot(tmp_path):
    assert "this is a folder" in refused(write_atomic, tmp_path, "x")
    assert "no such folder" in refused(write_atomic, tmp_path / "nowhere" / "x", "x")
    (tmp_path / "file").write_text("x")
    assert "no such folder" in refused(write_atomic, tmp_path / "file" / "x", "x")


def test_writing_to_a_device():
    if os.path.exists("/dev/null"):
        write_atomic("/dev/null", "x")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # written to, and not replaced by a file


def test_a_link_to_nowhere_says_where_it_leads(tmp_path):
    link = tmp_path / "plan.yaml"
    link.symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(InputError, match=r"plan\.yaml: the file that it links to is not there: .*gone\.yaml"):
        read_text(link)


def test_a_file_taken_for_a_folder_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1")
    with pytest.raises(InputError, match=r"there is no such folder: .*a\.yaml is a file"):
        read_text(tmp_path / "a.yaml" / "b.yaml")
