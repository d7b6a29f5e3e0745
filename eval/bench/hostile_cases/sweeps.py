"""Bad options of `sweep`; none of them draws anything."""

from hostile_cases.case import Case

GENDER = "sweep emoji-gender --out r"

CASES = [
    Case("adapter misspelt", "sweep emoji-gendr", "unknown adapter 'emoji-gendr'; did you mean"),
    Case("adapter twice", "sweep emoji-gender emoji-gender=1", "'emoji-gender' is given twice"),
    Case("strength in words", f"{GENDER} --strength full", "--strength 'full': write numbers"),
    Case("strength below 0", "sweep emoji-gender=-1,1", "greater than or equal to 0"),
    Case("strength beyond what was trained", "sweep emoji-gender=2", "less than or equal to 1.5"),
    Case("strength nan", "sweep emoji-gender=nan", "finite"),
    Case("strength twice", f"{GENDER} --strength 1,1", "emoji-gender: 1 is given twice", fault=7),
    Case("strength 0 alone", "sweep emoji-gender=0", "give a strength above 0"),
    Case("half of soft tokens", "sweep emoji-gender-tokens=.5", "soft tokens have no strength"),
    Case("guidance below 0", f"{GENDER} --guidance -1", "guidance.0: Input should be greater"),
    Case("guidance in words", f"{GENDER} --guidance high", "--guidance 'high': write numbers"),
    Case("half a step", f"{GENDER} --steps 7.5", "steps.0: Input should be a valid integer"),
    Case("no step", f"{GENDER} --steps 0", "steps.0: Input should be greater than or equal to 1"),
    Case(
        "guidance set and swept",
        f"{GENDER} --guidance 1,2 --setting guidance_scale=3",
        "guidance_scale is given as a setting and swept",
        fault=7,
    ),
    Case("margin over 1", f"{GENDER} --margin 2", "margin: Input should be less than or equal"),
    Case("features misspelt", f"{GENDER} --features klip", "--features: kind"),
    Case("the trainer", f"{GENDER} --judge emoji-trainer", "trained the adapter 'emoji-gender'"),
    Case(
        "two targets",
        "sweep emoji-gender emoji-gender-tone",
        "different targets of gender",
        fault=7,
    ),
    Case("a run's folder", GENDER, "r: holds a run; name another", {"r/run.json": {}}),
]
