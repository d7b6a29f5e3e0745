"""The first sentences of a report: right, and clear to a reader without statistics."""

from test_reports import built, record, run_of

from evenhand.reports.comparison import compare
from evenhand.reports.sentence import in_words


def images(shares, prompts=("a nurse",), each=40):
    """`shares[i]` of the images of prompt i are women."""
    return [
        record(prompt=p, seed=100 * i + j, cls="woman" if j < share * each else "man")
        for i, (p, share) in enumerate(zip(prompts, shares, strict=True))
        for j in range(each)
    ]


def test_one_run_says_how_many_of_a_hundred_and_whether_chance_explains_it():
    told = in_words([built(images([0.2]))])
    assert told[0].startswith("Of every 100 pictures drawn for this prompt, someone perceived 20 [")
    assert "as woman and 80 [" in told[0] and told[0].endswith("] as man.")
    assert told[1].startswith("The shares of woman and man lie 59 [")
    assert told[1].endswith("so chance alone does not explain it.")
    assert told[2] == "In brackets: the range in which the true number lies (95 %)."
    (even,) = [s for s in in_words([built(images([0.5]))]) if "apart" in s]
    assert even.endswith("so there may be no gap at all.")


def test_nothing_seen_is_said_and_many_classes_are_two():
    unseen = [record(seed=i, seen=False) for i in range(3)]
    assert in_words([built(unseen)]) == [
        "someone found nothing to judge in the pictures drawn for this prompt, so gender is not "
        "known."
    ]
    many = [f"c{i}" for i in range(6)]
    records = [record(seed=i, cls=many[i // 6], classes=many) for i in range(30)]
    told = in_words([built(records, attributes={"gender": {"classes": many}})])[0]
    assert "as c0 and 0 [" in told and told.endswith("as c5.")


def test_a_change_is_told_only_where_it_is_more_than_chance(tmp_path):
    prompts = [f"a {x}" for x in ("nurse", "cook", "guard", "judge", "pilot", "farmer")]
    runs = {
        name: run_of(tmp_path / name, images(shares, prompts))
        for name, shares in {
            "before": [0.05, 0.95, 0.0, 0.1, 0.9, 1.0],
            "after": [0.5, 0.55, 0.45, 0.4, 0.6, 0.5],
        }.items()
    }
    result = compare(runs["before"], runs["after"])
    told = in_words([result.before, result.after], result.change)
    assert "as woman before, " in told[0] and "these 6 prompts" in told[0]
    assert told[1].startswith("The shares of woman and man came ")
    assert told[1].endswith("points nearer to each other; chance alone does not explain that.")
    assert told[2].endswith("were it asked of many prompts like these (95 %).")
    same = compare(runs["before"], runs["before"])
    told = in_words([same.before, same.after], same.change)
    assert told[1].startswith("That anything changed cannot be told from these 6 prompts")


def test_a_single_picture_a_prompt_tells_of_shares_and_of_no_gap():
    told = in_words([built(images([0, 1, 0], ["a nurse", "a cook", "a guard"], each=1))])
    assert "as woman and " in told[0] and told[1].startswith("How far the classes lie apart cannot")
