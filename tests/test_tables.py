"""Tables that say which image was drawn for which prompt: what they may hold, what is refused."""

import json

import pytest

from evenhand.core.errors import UserError
from evenhand.images.folders import by_folder, files_in
from evenhand.images.tables import read_table

BREAKS = "one\u2028two\u0085three\vfour\ffive"  # Python's `splitlines` breaks at each of them


def read(folder, text, name="t.csv"):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_table(folder / name, folder)


def read_jsonl(folder, *rows, name="t.jsonl"):
    return read(folder, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows), name)


def test_a_table_says_what_was_asked(tmp_path):
    text = "image,prompt,concept,family,split,states.gender,other\n"
    (picture,) = read(tmp_path, text + "a/x.png,a woman nurse,nurse,jobs,test,woman,9\n")
    prompt = picture.prompt
    assert picture.path == tmp_path / "a" / "x.png" and prompt.text == "a woman nurse"
    assert (prompt.concept, prompt.family, prompt.split) == ("nurse", "jobs", "test")
    assert prompt.states == {"gender": "woman"}


def test_an_empty_cell_is_no_state(tmp_path):
    (picture,) = read(tmp_path, "image,prompt,states.gender\nx.png,a nurse,\n")
    assert picture.prompt.states == {}


@pytest.mark.parametrize("states", [{"states": {"gender": "woman"}}, {"states.gender": "woman"}])
def test_states_of_json_may_be_nested(tmp_path, states):
    (picture,) = read_jsonl(tmp_path, {"image": "x.png", "prompt": "a nurse"} | states)
    assert picture.prompt.states == {"gender": "woman"}


@pytest.mark.parametrize("name", ["t.jsonl", "T.JSONL", "t.ndjson"])
def test_json_lines_are_known_by_their_ending(tmp_path, name):
    rows = [{"image": f"{i}.png", "prompt": "a nurse"} for i in range(3)]
    assert [p.path.name for p in read_jsonl(tmp_path, *rows, name=name)] == [
        "0.png",
        "1.png",
        "2.png",
    ]


@pytest.mark.parametrize("name", ["t.json", "T.JSON"])
def test_a_json_list_is_a_table(tmp_path, name):
    rows = [{"image": f"{i}.png", "prompt": "a nurse"} for i in range(2)]
    assert len(read(tmp_path, json.dumps(rows, indent=1), name)) == 2


def test_a_byte_order_mark_is_no_part_of_a_table(tmp_path):
    assert len(read(tmp_path, "\ufeffimage,prompt\nx.png,a\n")) == 1


def test_windows_line_ends_are_no_part_of_a_prompt(tmp_path):
    (picture,) = read(tmp_path, "image,prompt\r\nx.png,a nurse\r\n")
    assert picture.prompt.text == "a nurse"


def test_empty_lines_are_no_rows(tmp_path):
    assert len(read(tmp_path, "image,prompt\n\nx.png,a\n\n")) == 1


def test_a_quoted_cell_may_hold_commas_and_line_feeds(tmp_path):
    (picture,) = read(tmp_path, 'image,prompt\nx.png,"a nurse,\nat ""work"""\n')
    assert picture.prompt.text == 'a nurse,\nat "work"'


def test_rare_line_breaks_do_not_end_a_row_of_csv(tmp_path):
    pictures = read(tmp_path, f"image,prompt\nx.png,{BREAKS}\ny.png,b\n")
    assert [p.prompt.text for p in pictures] == [BREAKS, "b"]


def test_rare_line_breaks_do_not_end_a_row_of_jsonl(tmp_path):
    rare = BREAKS.replace("\v", "").replace("\f", "")  # JSON texts hold these two escaped only
    pictures = read_jsonl(tmp_path, *({"image": x, "prompt": rare} for x in ("x.png", "y.png")))
    assert [p.prompt.text for p in pictures] == [rare, rare]


def spellings(folder):
    (folder / "link.png").symlink_to(folder / "A.png")
    return ["./A.png", "b/../A.png", str(folder / "A.png"), "link.png"]


@pytest.mark.parametrize("number", range(4))
def test_a_picture_counts_once_however_it_is_spelled(tmp_path, number):
    name = spellings(tmp_path)[number]
    with pytest.raises(UserError) as error:
        read(tmp_path, f"image,prompt\nA.png,a\nB.png,a\n{name},a\n")
    assert str(error.value).endswith(f"t.csv, row 3: {name} is listed twice, first in row 1")


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png"])
def test_a_relative_path_stays_inside_the_folder(tmp_path, name):
    with pytest.raises(UserError, match=f"row 1: {name} lies outside .*; write its absolute path"):
        read(tmp_path, f"image,prompt\n{name},a\n")


def test_an_absolute_path_may_lie_outside_the_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (picture,) = read(tmp_path / "folder", f"image,prompt\n{tmp_path / 'x.png'},a\n")
    assert picture.path == tmp_path / "x.png"


def test_a_link_to_itself_is_left_to_who_reads_it(tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "x.png")
    assert len(read(tmp_path, "image,prompt\nx.png,a\n")) == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("image,text\nx.png,a\n", "row 1: has no 'prompt'; a table has the columns image and"),
        ("image,prompt\nx.png,\n", "row 1: has no 'prompt'"),
        ("image,prompt,state.gender\nx.png,a,b\n", "'state.gender' .*did you mean states.ATTR"),
        (
            "image,prompt,Split\nx.png,a,b\n",
            "column 'Split' counts for nothing; did you mean split",
        ),
        ("image,prompt\n", "lists no image"),
        ("", "lists no image"),
        ("image,prompt,prompt\nx.png,a,b\n", "column 'prompt' stands twice"),
        ('image,prompt\nx.png,"a\ny.png,b\n', "cannot be read as a table"),
        ('image,prompt\nx.png,"a\ny.png,"b"\n', "cannot be read as a table"),
        ("image,prompt\nx.png,a, b\n", "line 2: 3 values for 2 columns; .* stands in quotes"),
        ("image,prompt\nx.png\n", "line 2: 1 values for 2 columns"),
        ("image,prompt\nx\0.png,a\n", "row 1: image holds a character that no file can keep"),
        ("image,prompt,states\nx.png,a,woman\n", "row 1: states names no attribute"),
    ],
)
def test_bad_csv_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("5", r"row 2: is no row with the columns image and prompt \(got 5\)"),
        ('["y.png", "a"]', "row 2: is no row with the columns"),
        ("null", "row 2: is no row with the columns"),
        ('{"image": 5, "prompt": "a"}', r"row 2: image shall be text \(got 5\)"),
        ('{"image": "y.png", "prompt": ["a"]}', "row 2: prompt shall be text"),
        ('{"image": "y.png", "prompt": "a", "states": "woman"}', "row 2: states names no attri"),
        ('{"image": "y.png", "prompt": "a", "states": ["woman"]}', "row 2: states names no attri"),
        (
            '{"image": "y.png", "prompt": "a", "states": {"gender": {"is": "woman"}}}',
            "row 2: states.gender shall be text",
        ),
        (
            '{"image": "y.png", "prompt": "a", "states": {"gender": 1}}',
            r"row 2: states.gender shall be text \(got 1\)",
        ),
        ('{"image": "y.png", "prompt": "\\ud800"}', "row 2: prompt holds a character that no"),
        ('{"image": "y.png", "prompt": "a", "prompt": "b"}', "line 2: key 'prompt' stands twice"),
        ('{"image": "y.png"', "line 2: Expecting ',' delimiter at column"),
        ("[" * 100_000, "cannot be read as a table"),
    ],
)
def test_bad_json_lines_are_refused(tmp_path, text, message):
    first = json.dumps({"image": "x.png", "prompt": "a"})
    with pytest.raises(UserError, match=message):
        read(tmp_path, f"{first}\n{text}\n", "t.jsonl")


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"image,prompt\nx.png,caf\xe9\n")
    with pytest.raises(UserError, match="t.csv: cannot be read as a table"):
        read_table(tmp_path / "t.csv", tmp_path)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="t.csv: cannot be read as a table"):
        read_table(tmp_path / "t.csv", tmp_path)


def test_folders_name_prompts(tmp_path):
    (tmp_path / "a nurse").mkdir()
    (tmp_path / "a nurse" / "x.png").touch()
    assert [(p.prompt.text, p.path.name) for p in by_folder(tmp_path)[0]] == [("a nurse", "x.png")]


def test_files_are_known_by_their_endings_and_sorted(tmp_path):
    for name in ("b.JPEG", "a.heic", ".hidden.png", "t.csv"):
        (tmp_path / name).touch()
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    assert [p.name for p in files_in(tmp_path)] == ["a.heic", "b.JPEG", "c.png"]


def test_pictures_have_seeds_of_their_own_that_no_table_changes(tmp_path):
    for name in ("x.png", "y.png"):
        (tmp_path / name).touch()
    table = {p.seed for p in read(tmp_path, "image,prompt\ny.png,a\nx.png,b\n")}
    assert len(table) == 2 and table == {p.seed for p in by_folder(tmp_path)[0]}
