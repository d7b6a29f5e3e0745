"""The page of functions for notebooks: its examples run, its names are there."""

import doctest
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import evenhand

PAGE = pathlib.Path(evenhand.__file__).with_name("README.md")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def test_the_examples_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.FAIL_FAST)
    assert found.attempted > 15 and not found.failed


def test_ten_functions_and_the_schema_are_on_the_page_and_typed():
    functions = [name for name in evenhand.__all__ if name != "Measure"]
    assert len(functions) == 10
    assert set(re.findall(r"\*\*`(\w+)\(", PAGE.read_text())) == set(functions)
    for name in functions:
        signature = inspect.signature(getattr(evenhand, name))
        assert signature.return_annotation is not signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values())
        assert inspect.getdoc(getattr(evenhand, name))


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="mesure_images"):
        evenhand.mesure_images  # noqa: B018


def test_importing_loads_nothing():
    code = (
        "import sys, evenhand; dir(evenhand); "
        "sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
