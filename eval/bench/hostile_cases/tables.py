"""Bad inputs of `evenhand measure --images-from`: tables of prompts."""

from hostile_cases.case import Case
from hostile_cases.folders import PICS, F, T, judged, report, skipped


def noted(words: str):
    return lambda folder, out: any(words in note for note in report(folder)["notes"])


def table(text: str, name: str = "t.csv", **more) -> dict:
    return {**PICS, name: text, **more}


CASES = [
    Case("not there", T, "t.csv: cannot be read", PICS),
    Case("empty", T, "lists no image", table("")),
    Case("no UTF-8", T, "cannot be read as a table", table(b"image,prompt\nA.png,caf\xe9\n")),
    Case("a byte order mark", T, None, table("\ufeffimage,prompt\nA.png,a\n"), judged(1), 21),
    Case("a column missing", T, "has no 'prompt'", table("image,text\nA.png,a\n")),
    Case("a column twice", T, "stands twice", table("image,prompt,prompt\nA.png,a,b\n")),
    Case(
        "a column misspelt",
        T,
        "did you mean states",
        table("image,prompt,state.gender\nA.png,a,b\n"),
        fault=7,
    ),
    Case(
        "a column in capitals",
        T,
        "did you mean split",
        table("image,prompt,Split\nA.png,a,b\n"),
        fault=7,
    ),
    Case(
        "a comma too many",
        T,
        "3 values for 2 columns",
        table("image,prompt\nA.png,a, b\n"),
        fault=11,
    ),
    Case("a value missing", T, "1 values for 2 columns", table("image,prompt\nA.png\n"), fault=11),
    Case(
        "a quote left open",
        T,
        "cannot be read",
        table('image,prompt\nA.png,"a\nB.png,b\n'),
        fault=4,
    ),
    Case(
        "one picture in two spellings",
        T,
        "listed twice",
        table("image,prompt\nA.png,a\n./A.png,a\n"),
        fault=4,
    ),
    Case(
        "one picture by its absolute path",
        T,
        "listed twice",
        {
            **PICS,
            "t.csv": lambda p: p.write_text(f"image,prompt\nA.png,a\n{p.parent}/pics/A.png,a\n"),
        },
        fault=4,
    ),
    Case("outside", T, "lies outside", table("image,prompt\n../A.png,a\n"), fault=46),
    Case(
        "a picture that is gone",
        T,
        None,
        table("image,prompt\nA.png,a\nX.png,a\n"),
        skipped(1, 2, "no such"),
    ),
    Case(
        "a folder as a picture",
        T,
        None,
        table("image,prompt\nA.png,a\n.,a\n"),
        skipped(1, 2, "no file"),
    ),
    Case(
        "a device as a picture",
        T,
        None,
        table("image,prompt\nA.png,a\n/dev/zero,a\n"),
        skipped(1, 2, "no file"),
    ),
    Case(
        "an unknown class",
        T,
        "unknown class 'female'",
        table("image,prompt,states.gender\nA.png,a,female\n"),
        fault=5,
    ),
    Case(
        "every row says a class",
        T,
        None,
        table("image,prompt,states.gender\nA.png,a,woman\n"),
        noted("Every prompt"),
        5,
    ),
    Case(
        "rare line breaks",
        T,
        None,
        table("image,prompt\nA.png,a\u2028b\x85c\nB.png,d\n"),
        judged(2),
        22,
    ),
    Case(
        "names that mean something to Rich",
        T,
        None,
        table("image,prompt,family,split\nA.png,a,[/bold],[red]x\nB.png,b,f,g\n"),
        lambda f, out: "[/bold], [red]x" in out,
        12,
    ),
    Case(
        "names that mean something to TeX",
        T,
        None,
        table("image,prompt\nA.png,$\\foo$ {x\nB.png,_b\n"),
        judged(2),
        12,
    ),
    Case(
        "names that mean something to HTML",
        T,
        None,
        table("image,prompt\nA.png,<script>x</script>\n"),
        lambda f, out: "<script>x" not in (f / "r/report.html").read_text(),
        12,
    ),
    Case(
        "a split called all",
        T,
        None,
        table("image,prompt,split\nA.png,a,all\nB.png,b,test\n"),
        judged(2),
        29,
    ),
    Case(
        "numbers in JSON lines",
        f"{F} --prompts t.jsonl",
        "is no row",
        table("5\n", "t.jsonl"),
        fault=23,
    ),
    Case(
        "half a JSON line",
        f"{F} --prompts t.jsonl",
        "line 1",
        table('{"image": "A.png"', "t.jsonl"),
        fault=23,
    ),
    Case(
        "states in words",
        f"{F} --prompts t.jsonl",
        "states names no",
        table('{"image": "A.png", "prompt": "a", "states": "x"}', "t.jsonl"),
        fault=23,
    ),
    Case(
        "lone surrogates",
        f"{F} --prompts t.jsonl",
        "no file can keep",
        table('{"image": "A.png", "prompt": "\\ud800"}', "t.jsonl"),
    ),
    Case(
        "a JSON list",
        f"{F} --prompts t.json",
        None,
        table('[{"image": "A.png", "prompt": "a"}]', "t.json"),
        judged(1),
        23,
    ),
    Case(
        "capitals",
        f"{F} --prompts T.JSONL",
        None,
        table('{"image": "A.png", "prompt": "a"}', "T.JSONL"),
        judged(1),
        23,
    ),
    Case(
        "a spreadsheet",
        f"{F} --prompts t.xlsx",
        "cannot be read as a table",
        table(b"PK\x03\x04\xff\xfe", "t.xlsx"),
    ),
    Case(
        "a prompt set instead",
        f"{F} --prompts emoji-occupations",
        "cannot be read as a table",
        PICS,
    ),
]
