"""Bad inputs of `evenhand plan`, `evenhand demo`, `evenhand list`, and of no verb at all."""

from hostile_cases.case import Case


def says(words: str):
    return lambda folder, out: words in " ".join(out.split())


CASES = [
    Case("width 0", "plan --width 0", "Invalid value for"),
    Case("width below 0", "plan --width -1", "Invalid value for"),
    Case("width 1", "plan --width 1", "Invalid value for"),
    Case("width .001", "plan --width .001", "Invalid value for", fault=16),
    Case("width nan", "plan --width nan", "Invalid value for", fault=16),
    Case("width in words", "plan --width narrow", "Invalid value for"),
    Case("no prompts", "plan --prompts 0", "Invalid value for"),
    Case("spread nan", "plan --spread nan", "Invalid value for"),
    Case("spread over .5", "plan --spread .9", "Invalid value for"),
    Case("one prompt", "plan --prompts 1 --width .1", None, right=says("1 prompt")),
    Case("spread 0", "plan --spread 0 --width .1", None, right=says("takes 2 prompts")),
    Case(
        "more prompts than there are",
        "plan --prompts 1000000000000 --width .1",
        None,
        right=says("1,000,000,000,000"),
    ),
    Case("demo into a file", "demo --quick --out x", "x", {"x": "mine"}),
    Case(
        "demo into somebody's folder",
        "demo --quick --out x",
        "holds files but no run.json",
        {"x/quick/before/a": "mine"},
    ),
    Case("demo with a word", "demo quickly", "unexpected extra argument"),
    Case("list with a word", "list models", "unexpected extra argument"),
    Case(
        "list on an ASCII terminal",
        "list",
        None,
        right=says("emoji"),
        process={"PYTHONIOENCODING": "ascii"},
    ),
    Case("an empty word", "report ''", "an argument after 'report' is empty"),
    Case("an unset variable", "measure --images-from '' --judge emoji-judge", "is empty"),
    Case("an unset judge", "measure emoji --prompts things --judge ''", "after '--judge' is empty"),
    Case("a word that is no UTF-8", "report caf\udce9", "is not UTF-8"),
    Case("an unknown option", "--verbose list", "No such option: --verbose"),
    Case("an option after its verb", "report --debug nowhere", "No such option: --debug"),
]
