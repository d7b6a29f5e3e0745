"""How files of settings are read: numbers, groups, names, versions; and what a user is told."""

import json

import pytest

from evenhand.core.adapters import LORA, SCHEMA, find_adapter
from evenhand.core.attributes import attributes_of
from evenhand.core.errors import UserError
from evenhand.core.resources import find_yaml, locate
from evenhand.core.schema import check, merged, override, parse_yaml, read_yaml, versioned
from evenhand.measure import plan
from evenhand.recipes.judge import find_judge
from evenhand.recipes.measure import Measure
from evenhand.recipes.model import Model, load_model
from evenhand.stats.calibration import read_calibration


@pytest.mark.parametrize("text", ["1e-4", "5E-5", "+1e3", "-2.e2", ".5e1", "1.5e-3"])
def test_numbers_with_an_exponent_are_numbers(text, tmp_path):
    assert override({}, [f"options.x={text}"]) == {"options": {"x": float(text)}}
    (tmp_path / "a.yaml").write_text(f"{{x: {text}, y: [{text}]}}")
    assert read_yaml(tmp_path / "a.yaml") == {"x": float(text), "y": [float(text)]}


@pytest.mark.parametrize("text", ["e4", "1e", "'1e4'", "v1e4", "1e4x"])
def test_texts_that_look_a_little_like_numbers_stay_texts(text):
    assert parse_yaml(text, where="") == text.strip("'")


def test_a_key_that_stands_twice_is_named():
    with pytest.raises(UserError, match="mine.yaml: .*key 'man' stands twice"):
        parse_yaml("gender: {man: .5, woman: .5, man: .1}", where="mine.yaml")


def test_groups_are_merged_to_any_depth():
    before = {"a": {"b": {"c": 1, "d": 2}}, "e": 3}
    assert merged(before, {"a": {"b": {"c": 5}}, "f": 6}) == {
        "a": {"b": {"c": 5, "d": 2}},
        "e": 3,
        "f": 6,
    }
    assert before == {"a": {"b": {"c": 1, "d": 2}}, "e": 3}


def test_a_measurements_option_leaves_the_models_other_options(tmp_path):
    """As `--setting options.eta=0.5` gives it."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "path: package:emoji/model\njudge: emoji-judge\n"
        "settings: {options: {guidance_rescale: 0.7, clip_skip: 1}}"
    )
    changes = override({}, ["options.clip_skip=2", "options.eta=5e-1"])
    config = Measure(model=str(path), prompts=["emoji-occupations"], settings=changes)
    assert plan(config).settings["settings"]["options"] == {
        "guidance_rescale": 0.7,
        "clip_skip": 2,
        "eta": 0.5,
    }


def test_what_a_user_is_told_holds_no_address_of_a_library():
    with pytest.raises(UserError) as told:
        check(Model, {"path": 3, "bogus": 1}, where="a.yaml")
    assert "pydantic" not in str(told.value) and len(str(told.value).splitlines()) == 2
    with pytest.raises(
        UserError, match="^attribute 'gender': attribute 'gender' needs two"
    ) as told:
        attributes_of({"gender": {"classes": ["woman"]}})
    assert "pydantic" not in str(told.value)


def test_a_judge_whose_attributes_are_impossible_is_one_line(tmp_path):
    path = tmp_path / "judge.yaml"
    path.write_text("{kind: clip, attributes: {gender: {classes: [a, a], bogus: 1}}}")
    with pytest.raises(UserError) as told:
        find_judge(str(path))
    assert "pydantic" not in str(told.value) and "gender" in str(told.value)


@pytest.mark.parametrize(
    "name", ["../pyproject", "../../evenhand/emoji/world", "dft/../../eval/models/emoji"]
)
def test_a_name_does_not_lead_out_of_what_ships(name):
    with pytest.raises(UserError, match="unknown recipe"):
        find_yaml("train", name)


def test_an_adapters_name_does_not_lead_out_of_what_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="unknown adapter '../prompts'"):
        find_adapter("../prompts")


@pytest.mark.parametrize("path", ["package:../..", "package:/etc", "package:emoji/../../../x"])
def test_a_package_path_stays_in_the_package(path):
    with pytest.raises(UserError, match="leads out of the installed package"):
        locate(path)


def test_a_folder_in_the_working_directory_does_not_shadow_what_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("emoji", "emoji-gender", "emoji-judge", "mine"):
        (tmp_path / name).mkdir()
    assert load_model("emoji").path == "package:emoji/model"
    assert load_model("./emoji").path == "./emoji"
    assert find_adapter("emoji-gender").folder.parent.name == "adapters"
    assert find_judge("emoji-judge").path.endswith("evenhand/emoji/classifiers/judge")
    with pytest.raises(UserError, match="unknown model 'mine'.*for the one here: ./mine$"):
        load_model("mine")


def test_a_model_knows_what_it_was_called_and_does_not_tell():
    model = load_model("emoji")
    assert model.name == "emoji" and model.model_copy(update={"dtype": "float16"}).name == "emoji"
    assert "name" not in model.model_dump()


@pytest.mark.parametrize("values, version", [({}, 1), ({"schema": 1}, 1), ({"schema": 3}, 3)])
def test_a_file_without_a_version_is_of_the_first(values, version):
    assert versioned(values, kind="journal", newest=3, where="x") == version


@pytest.mark.parametrize("schema", [0, -1, "2", 1.0, True, None])
def test_what_is_no_version_is_refused(schema):
    with pytest.raises(UserError, match="^x: schema: .* is no version of a journal$"):
        versioned({"schema": schema}, kind="journal", newest=3, where="x")


def test_files_of_a_newer_evenhand_are_refused_in_one_line(tmp_path):
    (tmp_path / LORA).write_bytes(b"")
    (tmp_path / "adapter.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(UserError, match="adapter description was written by a newer evenhand"):
        find_adapter(tmp_path)
    (tmp_path / "calibration.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(UserError, match="calibration was written by a newer evenhand .*; update"):
        read_calibration(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "{"])
def test_a_damaged_description_is_named(tmp_path, text):
    (tmp_path / LORA).write_bytes(b"")
    (tmp_path / "adapter.json").write_text(text)
    with pytest.raises(UserError, match="adapter.json: "):
        find_adapter(tmp_path)
