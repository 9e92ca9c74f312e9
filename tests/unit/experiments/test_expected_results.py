import json
import math
import os
import re
import statistics
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from experiments.claims import (
    ClaimsError,
    CurveClaim,
    ExpectedResults,
    Recorded,
    applies,
    check_models,
    describe,
    load_claims,
    needs,
    part_names,
    quantities,
    record,
    region,
    save_claims,
    with_recorded,
)
from experiments.verdicts import Judgement, Region, Verdict, judge, judge_exact

REPOSITORY = Path(__file__).parents[3]
COMMITTED = REPOSITORY / "expected_results.json"
fast = settings(deadline=None, max_examples=40)

HEAD = {"id": "q1-x", "question": 1, "source": "ours", "statement": "A is B."}
BODIES = {
    "parameters": {"kind": "parameters", "models": ["a", "b"], "equals": 5},
    "size": {"kind": "size", "measure": "bytes", "pairs": [["a", "b"]], "ratio_at_least": 3.9},
    "accuracy": {"kind": "accuracy", "model": "a", "published": 88.41, "tolerance": 1.2},
    "comparison": {"kind": "comparison", "pairs": [["a", "b"], ["c", "b"]], "at_most": 0.5},
    "curve": {"kind": "curve", "shape": "falling", "models": ["a", "b", "c"], "margin": 0.5},
}


def entry(base, **changes):
    given = {**HEAD, **BODIES[base], **changes}
    return {name: value for name, value in given.items() if value is not ...}


def results(*entries):
    return ExpectedResults.model_validate_json(json.dumps({"format": 1, "claims": entries}))


def claim(base, **changes):
    return results(entry(base, **changes)).claims[0]


def written(path, *entries, **top):
    path.write_text(json.dumps({"format": 1, "claims": entries, **top}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def committed():
    return load_claims(COMMITTED)


# Reading


def test_importing_claims_loads_nothing_slow():
    slow = "{'torch', 'numpy', 'scipy', 'pandas', 'statsmodels', 'pytest'}"
    code = f"import sys, experiments.claims; print(sorted({slow} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", BODIES)
def test_each_kind_is_read_back_as_it_was_written(tmp_path, kind):
    path = written(tmp_path / "claims.json", entry(kind))
    loaded = load_claims(path)
    assert loaded.claims[0].kind == kind
    assert loaded.claims[0].model_dump(mode="json", exclude_unset=True) == entry(kind)
    with pytest.raises(ValueError, match="frozen"):
        loaded.claims[0].id = "q1-y"


WRONG_FIELDS = [
    ("size", {"kind": "sise"}, "'kind' is 'sise', should be one of parameters, size, accuracy, comparison, curve"),
    ("size", {"kind": ...}, "'kind' is missing, should be one of parameters"),
    ("size", {"measure": ...}, "the field 'measure' is missing"),
    ("size", {"measure": ..., "mesure": "bytes"}, "the field 'mesure' is unknown; did you mean 'measure'"),
    ("size", {"measure": "byte"}, "measure is 'byte': Input should be 'parameters', 'macs' or 'bytes'"),
    ("size", {"ratio_at_leest": 1}, "'ratio_at_leest' is unknown; did you mean 'ratio_at_least'"),
    ("size", {"zzz": 1}, "'zzz' is unknown; the fields are data, id, kind, measure"),
    ("size", {"ratio_at_least": True}, "ratio_at_least is True: Input should be a valid number"),
    ("size", {"ratio_at_least": "3.9"}, "ratio_at_least is '3.9': Input should be a valid number"),
    ("size", {"ratio_at_least": 0}, "ratio_at_least is 0: Input should be greater than 0"),
    ("size", {"ratio_above": 1}, "'ratio_above' stands beside 'ratio_at_least' or 'ratio_at_most'"),
    ("size", {"ratio_at_least": ...}, "nothing is asked: give 'ratio_above', or 'ratio_at_least'"),
    ("size", {"ratio_at_most": 2}, "'ratio_at_least' is 3.9, should be below 'ratio_at_most', 2"),
    ("size", {"pairs": []}, "pairs is []: Tuple should have at least 1 item"),
    ("size", {"pairs": [["a"]]}, "the field 'pairs[0][1]' is missing"),
    ("size", {"pairs": [["a", 5]]}, "pairs[0][1] is 5: Input should be a valid string"),
    ("size", {"pairs": [["a", "b", "c"]]}, "pairs[0] is ['a', 'b', 'c']: Tuple should have at most 2 items"),
    ("size", {"pairs": [["a", "a"]]}, "pairs[0] compares 'a' with itself"),
    ("size", {"pairs": [["a", "b"], ["a", "b"]]}, "'pairs' has [a, b] twice"),
    ("parameters", {"at_most": 5}, "'equals' stands beside 'at_least' or 'at_most'"),
    ("parameters", {"equals": ...}, "nothing is asked: give 'equals', or 'at_least' or 'at_most'"),
    ("parameters", {"equals": 5.5}, "equals is 5.5: Input should be a valid integer"),
    ("parameters", {"equals": -1}, "equals is -1: Input should be greater than or equal to 0"),
    ("parameters", {"models": []}, "models is []: Tuple should have at least 1 item"),
    ("parameters", {"models": ["a", "a"]}, "'models' names 'a' twice"),
    ("parameters", {"models": ["A b"]}, "models[0] is 'A b': String should match pattern"),
    ("accuracy", {"tolerance": ...}, "'published' and 'tolerance' should be given together"),
    ("accuracy", {"tolerance": 0}, "tolerance is 0: Input should be greater than 0"),
    ("accuracy", {"at_least": 3}, "'published' stands beside 'at_least' or 'at_most'"),
    ("accuracy", {"published": ..., "tolerance": ...}, "nothing is asked: give 'published', or 'at_least'"),
    ("accuracy", {"measure": "loss"}, "measure is 'loss': Input should be 'accuracy'"),
    ("comparison", {"at_most": ...}, "nothing is asked: give 'above', or 'at_least' or 'at_most'"),
    ("comparison", {"at_least": 0.5}, "'at_least' is 0.5, should be below 'at_most', 0.5"),
    ("curve", {"margin": -1}, "the margin of a falling curve is -1, should be 0 or more"),
    ("curve", {"shape": "accelerating", "models": ["a", "b"]}, "'models' should be 3 or more"),
    ("curve", {"shape": "rising"}, "shape is 'rising': Input should be 'falling' or 'accelerating'"),
    ("curve", {"question": 7}, "question is 7: Input should be less than or equal to 4"),
    ("curve", {"question": 2}, "question is 2, so the id should start with 'q2-'"),
    ("curve", {"statement": " "}, "statement is ' ': String should match pattern"),
    ("curve", {"recorded": {"p": {"verdict": "maybe"}}}, "recorded.p.verdict is 'maybe': Input should be"),
    ("curve", {"recorded": {"p": {"verdict": "not applicable"}}}, "recorded.p.verdict is 'not applicable'"),
    ("curve", {"recorded": {"p": {"verdict": "refuted", "x": 1}}}, "'recorded.p.x' is unknown"),
    (
        "curve",
        {"recorded": {"p": {"verdict": "refuted", "estimates": [{"mean": 1}]}}},
        "the field 'recorded.p.estimates[0].sd' is missing",
    ),
]


@pytest.mark.parametrize(("kind", "changes", "reason"), WRONG_FIELDS)
def test_a_wrong_field_is_named_with_its_entry_and_what_would_be_right(tmp_path, kind, changes, reason):
    path = written(tmp_path / "claims.json", entry("size", id="q1-good"), entry(kind, **changes))
    with pytest.raises(ClaimsError) as caught:
        load_claims(path)
    assert str(caught.value).startswith(f"{path}: claims[1] (q1-x): ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["q5-x", "Q1-x", "q1", "q1_x", "q1-X", "q1-x-", "q1--x", "q1-x\n", "", 3])
def test_an_id_that_is_not_kebab_case_is_refused(tmp_path, wrong):
    path = written(tmp_path / "claims.json", entry("size", id=wrong))
    with pytest.raises(ClaimsError, match=r"claims\[0\] .*: id is "):
        load_claims(path)


WRONG_FILES = [
    ('{"format": 1,\n "claims": [}', "line 2, column 13: Expecting value"),
    ("", "line 1, column 1: Expecting value"),
    ("[]", "the content is []: Input should be an object"),
    ("3", "the content is 3: Input should be an object"),
    ('{"claims": []}', "the field 'format' is missing"),
    ('{"format": 2, "claims": []}', "format is 2: this version reads format 1"),
    ('{"format": true, "claims": []}', "format is True: Input should be a valid integer"),
    ('{"format": 1}', "the field 'claims' is missing"),
    ('{"format": 1, "claims": []}', "claims is []: Tuple should have at least 1 item"),
    ('{"format": 1, "claims": {}}', "claims is {}: Input should be a valid array"),
    ('{"format": 1, "claims": [3]}', "claims[0] (no id): the content is 3: Input should be an object"),
    ('{"format": 1, "claim": []}', "the field 'claim' is unknown; did you mean 'claims'"),
    ('{"format": 1, "claims": [{"id": "q1-x", "id": "q1-y"}]}', "the field 'id' stands twice in the claim 'q1-y'"),
    ('{"format": NaN, "claims": []}', "NaN is not JSON; should be a finite number"),
    ('{"format": -Infinity, "claims": []}', "-Infinity is not JSON"),
    ('{"format": 1, "claims": ["\\ud800"]}', "Invalid JSON"),
    ("[" * 100_000, "nested too deeply"),
    ('{"format": ' + "9" * 5000 + "}", "4300"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG_FILES)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, text, reason):
    path = tmp_path / "claims.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ClaimsError) as caught:
        load_claims(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 400


def test_numbers_beyond_floats_are_refused(tmp_path):
    path = tmp_path / "claims.json"
    text = json.dumps({"format": 1, "claims": [entry("size")]}).replace("3.9", "1e999")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ClaimsError, match=r"claims\[0\] \(q1-x\): ratio_at_least is inf: .*finite"):
        load_claims(path)


def test_a_repeated_id_is_refused_with_both_places(tmp_path):
    path = written(tmp_path / "claims.json", entry("size"), entry("curve", id="q1-y"), entry("accuracy"))
    with pytest.raises(ClaimsError, match=r"claims\[2\] repeats the id 'q1-x' of claims\[0\]"):
        load_claims(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ClaimsError, match=r"none\.json: cannot be read, .*No such file"):
        load_claims(tmp_path / "none.json")
    with pytest.raises(ClaimsError, match="cannot be read"):
        load_claims(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"format": "\xe9"}')
    with pytest.raises(ClaimsError, match="byte 12 is not UTF-8"):
        load_claims(tmp_path / "latin.json")


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ClaimsError, match="more than 4,194,304 bytes"):
        load_claims(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@fast
@given(st.data())
def test_a_file_with_anything_put_anywhere_loads_or_is_refused_clearly(tmp_path_factory, data):
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    index = data.draw(st.integers(0, len(document["claims"]) - 1))
    victim = document["claims"][index]
    victim[data.draw(st.sampled_from([*victim, "new"]))] = data.draw(json_values)
    path = tmp_path_factory.mktemp("claims") / "claims.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with suppress(ClaimsError):
        loaded = load_claims(path)
        save_claims(loaded, path)
        assert load_claims(path) == loaded
        return
    with pytest.raises(ClaimsError, match=re.escape(f"{path}: ")):
        load_claims(path)


@fast
@given(st.data())
def test_a_field_taken_away_is_missed_or_was_optional(tmp_path_factory, data):
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    index = data.draw(st.integers(0, len(document["claims"]) - 1))
    victim = document["claims"][index]
    name = data.draw(st.sampled_from(sorted(victim.keys() - {"note", "data", "recorded", "measure"})))
    assume(not (name in ("ratio_at_least", "at_least") and {"ratio_at_most", "at_most"} & victim.keys()))
    assume(not (name in ("ratio_at_most", "at_most") and {"ratio_at_least", "at_least"} & victim.keys()))
    del victim[name]
    path = tmp_path_factory.mktemp("claims") / "claims.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ClaimsError) as caught:
        load_claims(path)
    assert f"claims[{index}]" in str(caught.value)


# Models


def test_a_model_that_no_recipe_makes_is_refused_with_the_closest():
    loaded = results(entry("curve"), entry("comparison", id="q1-y", pairs=[["student-0.95-6", "a"]]))
    with pytest.raises(ClaimsError, match=r"claims\[1\] \(q1-y\): no recipe .*'student-0.95-6'; did you mean '"):
        check_models(loaded, {"a", "b", "c", "student-0.95-1", "teacher"})
    with pytest.raises(ClaimsError, match=r"'student-0.95-6'$"):
        check_models(loaded, ["a", "b", "c"])
    check_models(loaded, ["a", "b", "c", "student-0.95-6"])


@pytest.mark.parametrize(
    ("kind", "models", "every_seed"),
    [
        ("parameters", ("a", "b"), False),
        ("size", ("a", "b"), False),
        ("accuracy", ("a",), True),
        ("comparison", ("a", "b", "c"), True),
        ("curve", ("a", "b", "c"), True),
    ],
)
def test_needs_are_each_model_once_and_the_seeds(kind, models, every_seed):
    needed = needs(claim(kind))
    assert (needed.models, needed.every_seed) == (models, every_seed)


def test_a_number_published_for_other_data_does_not_apply():
    assert applies(claim("accuracy", data="food-11"), "food-11")
    assert not applies(claim("accuracy", data="food-11"), "shapes")
    assert applies(claim("accuracy"), "shapes")


# Quantities and regions


def lookup_in(**measured):
    def lookup(model, measure):
        return measured[f"{model}_{measure}"]

    return lookup


def test_counts_are_one_part_a_model():
    lookup = lookup_in(a_macs=[7], b_macs=[8])
    assert quantities(claim("parameters", measure="macs"), lookup) == ((7,), (8,))


def test_size_is_the_ratio_of_the_first_to_the_second():
    lookup = lookup_in(a_bytes=[400], b_bytes=[100])
    assert quantities(claim("size"), lookup) == ((4.0,),)


def test_comparison_is_paired_by_seed():
    lookup = lookup_in(a_accuracy=[80.0, 70.0], b_accuracy=[79.0, 72.5], c_accuracy=[1.0, 2.0])
    assert quantities(claim("comparison"), lookup) == ((1.0, -2.5), (-78.0, -70.5))


def test_a_difference_of_decimals_lies_on_the_edge_not_beyond():
    assert 80.2 - 80.1 > 0.1
    drop = claim("comparison", pairs=[["a", "b"]], at_most=0.1)
    parts = quantities(drop, lookup_in(a_accuracy=[80.2, 70.4], b_accuracy=[80.1, 70.3]))
    assert parts == ((0.1, 0.1),)
    assert judge(parts, region(drop)).verdict is Verdict.REPRODUCED


def test_a_falling_curve_is_its_steps():
    lookup = lookup_in(a_accuracy=[80.0, 81.0], b_accuracy=[79.0, 82.0], c_accuracy=[70.0, 70.0])
    assert quantities(claim("curve"), lookup) == ((-1.0, 1.0), (-9.0, -12.0))


def test_an_accelerating_curve_is_the_last_cost_less_the_first():
    lookup = lookup_in(
        a_accuracy=[80.0, 81.0], b_accuracy=[79.0, 82.0], c_accuracy=[70.0, 70.0], d_accuracy=[60.0, 65.0]
    )
    curve = claim("curve", shape="accelerating", models=["a", "b", "c", "d"])
    assert quantities(curve, lookup) == ((10.0 - 1.0, 5.0 - -1.0),)


def test_accuracy_is_its_samples():
    assert quantities(claim("accuracy", measure="best_accuracy"), lookup_in(a_best_accuracy=[1, 2])) == ((1, 2),)


@pytest.mark.parametrize("kind", ["comparison", "curve", "size"])
def test_models_measured_on_unequal_seeds_are_not_compared(kind):
    measure = "bytes" if kind == "size" else "accuracy"
    lookup = lookup_in(**{f"{model}_{measure}": [1.0] * n for model, n in (("a", 3), ("b", 2), ("c", 3))})
    with pytest.raises(ClaimsError, match=rf"q1-x: b has {measure} of 2 seeds, should have as many as a, 3"):
        quantities(claim(kind), lookup)


def test_a_ratio_by_nothing_is_refused():
    with pytest.raises(ClaimsError, match="q1-x: b has 0 bytes"):
        quantities(claim("size"), lookup_in(a_bytes=[4], b_bytes=[0]))


@pytest.mark.parametrize(
    ("kind", "changes", "expected", "text"),
    [
        ("parameters", {"equals": 256779}, Region(256779, 256779), "256,779"),
        ("parameters", {"equals": 11182155}, Region(11182155, 11182155), "11,182,155"),
        ("parameters", {"equals": ..., "at_most": 299999}, Region(upper=299999), "<= 299,999"),
        ("parameters", {"equals": ..., "at_least": 2, "at_most": 4}, Region(2, 4), "2 to 4"),
        ("size", {}, Region(lower=3.9), ">= 3.9 times"),
        ("size", {"ratio_at_least": 0.95, "ratio_at_most": 1.05}, Region(0.95, 1.05), "0.95 to 1.05 times"),
        ("accuracy", {}, Region(87.21, 89.61), "88.41 +- 1.2"),
        ("accuracy", {"published": 79.79, "tolerance": 0.8}, Region(78.99, 80.59), "79.79 +- 0.8"),
        ("accuracy", {"published": ..., "tolerance": ..., "at_least": 99}, Region(lower=99), ">= 99"),
        ("comparison", {}, Region(upper=0.5), "<= 0.5 points"),
        ("comparison", {"at_most": ..., "at_least": 0}, Region(lower=0), ">= 0 points"),
        ("comparison", {"at_least": -0.5}, Region(-0.5, 0.5), "-0.5 to 0.5 points"),
        ("curve", {}, Region(upper=0.5), "each step <= 0.5 points"),
        (
            "curve",
            {"shape": "accelerating", "margin": 0},
            Region(lower=0),
            "the last step costs >= 0 points more than the first",
        ),
    ],
)
def test_region_and_its_description(kind, changes, expected, text):
    assert region(claim(kind, **changes)) == expected
    assert describe(claim(kind, **changes)) == text


def test_above_excludes_equality_and_admits_the_smallest_excess():
    larger = claim("size", ratio_at_least=..., ratio_above=1)
    assert describe(larger) == "> 1 times"
    for count, verdict in ((256779, Verdict.REFUTED), (256780, Verdict.REPRODUCED)):
        parts = quantities(larger, lookup_in(a_bytes=[count], b_bytes=[256779]))
        assert judge_exact(parts, region(larger)).verdict is verdict


@pytest.mark.parametrize(
    ("kind", "changes", "names"),
    [
        ("parameters", {}, ("a", "b")),
        ("size", {}, ("a / b",)),
        ("accuracy", {}, ("a",)),
        ("comparison", {}, ("a - b", "c - b")),
        ("curve", {}, ("b - a", "c - b")),
        ("curve", {"shape": "accelerating"}, ("(b - a) - (c - b)",)),
    ],
)
def test_parts_are_named_in_the_order_of_the_quantities(kind, changes, names):
    assert part_names(claim(kind, **changes)) == names


@fast
@given(st.data())
def test_names_needs_and_quantities_of_every_committed_claim_agree(committed, data):
    given_claim = data.draw(st.sampled_from(committed.claims))
    asked = set()

    def lookup(model, measure):
        asked.add(model)
        return [50.0 + len(model), 51.0]

    parts = quantities(given_claim, lookup)
    assert len(parts) == len(part_names(given_claim))
    assert asked == set(needs(given_claim).models)
    assert describe(given_claim)
    assert region(given_claim)


# Recording and writing


def test_recording_touches_one_profile_of_the_named_claims_only():
    old = {"quick": {"verdict": "inconclusive"}, "small": {"verdict": "refuted"}}
    before = results(entry("size", recorded=old), entry("curve", id="q1-y", recorded=old))
    judged = judge([[79.0, 80.0, 81.0], [5.0, 5.0, 5.0]], Region(lower=0))
    after = with_recorded(before, "quick", {"q1-y": record(judged)})
    assert after.claims[0] == before.claims[0]
    assert after.claims[1].recorded["small"] == before.claims[1].recorded["small"]
    new = after.claims[1].recorded["quick"]
    assert new.verdict is Verdict.REPRODUCED
    # t(0.95, 2) / sqrt(3) = 1.6859
    assert new.model_dump()["estimates"][0] == {"mean": 80, "sd": 1, "n": 3, "lower": 78.3141, "upper": 81.6859}
    assert before.claims[1].recorded["quick"].verdict is Verdict.INCONCLUSIVE


def test_recorded_profiles_stand_in_order_whatever_came_first():
    refuted = Recorded(verdict=Verdict.REFUTED)
    one = with_recorded(with_recorded(results(entry("size")), "b", {"q1-x": refuted}), "a", {"q1-x": refuted})
    assert list(one.claims[0].recorded) == ["a", "b"]


def test_recording_an_unknown_claim_is_refused():
    with pytest.raises(ClaimsError, match=r"no claim has the id 'q1-z'; did you mean 'q1-x'"):
        with_recorded(results(entry("size")), "quick", {"q1-z": Recorded(verdict=Verdict.REFUTED)})


def test_one_seed_is_recorded_without_an_interval():
    part = record(judge([[3.5]], Region(lower=0))).estimates[0]
    assert (part.mean, part.sd, part.n, part.lower, part.upper) == (3.5, None, 1, None, None)


def test_what_does_not_apply_is_not_recorded():
    with pytest.raises(ClaimsError, match="nothing to record"):
        record(Judgement(Verdict.NOT_APPLICABLE, (), 1.0))


def test_the_committed_file_is_written_back_byte_by_byte(tmp_path, committed):
    path = tmp_path / "claims.json"
    save_claims(committed, path)
    assert path.read_bytes() == COMMITTED.read_bytes()


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=150).filter(lambda text: not text.isspace())
numbers = st.floats(-1e6, 1e6).filter(lambda number: number == 0 or abs(number) > 1e-6)
recorded_estimates = st.fixed_dictionaries(
    {
        "mean": numbers,
        "sd": st.none() | numbers.map(abs),
        "n": st.integers(1, 20),
        "lower": st.none() | numbers,
        "upper": st.none() | numbers,
    }
)
records = st.fixed_dictionaries(
    {"verdict": st.sampled_from(["reproduced", "refuted", "inconclusive"])},
    optional={"estimates": st.lists(recorded_estimates, max_size=3)},
)


@st.composite
def entries(draw):
    given_entry = entry(draw(st.sampled_from(list(BODIES))), source=draw(texts), statement=draw(texts))
    for name, values in (("note", st.none() | texts), ("data", texts)):
        if draw(st.booleans()):
            given_entry[name] = draw(values)
    given_entry["recorded"] = draw(st.dictionaries(texts, records, max_size=2))
    return dict(draw(st.permutations(list(given_entry.items()))))


@fast
@given(st.lists(entries(), min_size=1, max_size=4))
def test_writing_loses_nothing_and_comes_to_rest(tmp_path_factory, many):
    path = tmp_path_factory.mktemp("claims") / "claims.json"
    before = results(*({**one, "id": f"q1-{index}"} for index, one in enumerate(many)))
    save_claims(before, path)
    first = path.read_bytes()
    after = load_claims(path)
    assert after == before
    save_claims(after, path)
    assert path.read_bytes() == first
    assert json.loads(first)["claims"] == [{**one, "id": f"q1-{index}"} for index, one in enumerate(many)]


def test_writing_keeps_numbers_and_letters_as_a_person_writes_them(tmp_path):
    path = tmp_path / "claims.json"
    save_claims(results(entry("size", ratio_at_least=2.0, ratio_at_most=2.5, statement="Größer.")), path)
    text = path.read_text(encoding="utf-8")
    assert '"ratio_at_least": 2,\n' in text
    assert '"ratio_at_most": 2.5\n' in text
    assert '"statement": "Größer."' in text


def test_writing_keeps_the_files_mode_and_its_link_and_leaves_nothing_behind(tmp_path):
    path = written(tmp_path / "claims.json", entry("size"))
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    save_claims(results(entry("curve")), link)
    assert link.is_symlink()
    assert load_claims(path).claims[0].kind == "curve"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(child.name for child in tmp_path.iterdir()) == ["claims.json", "link.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = written(tmp_path / "claims.json", entry("size"))
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_claims(results(entry("curve")), path)
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["claims.json"]


# The committed claims, derived again


CHANNELS = [16, 32, 64, 128, 256, 256, 256, 256]


def convolution(inputs, outputs, kernel, groups=1):
    return inputs // groups * outputs * kernel**2 + outputs


def student_parameters(channels):
    first = convolution(3, channels[0], 3) + 2 * channels[0]
    blocks = [convolution(a, a, 3, groups=a) + 2 * a + convolution(a, b, 1) for a, b in pairwise(channels)]
    return first + sum(blocks) + channels[-1] * 11 + 11


def twin_parameters(channels):
    pairs = zip([3, *channels], channels, strict=False)
    return sum(convolution(a, b, 3) + 2 * b for a, b in pairs) + channels[-1] * 11 + 11


def resnet18_parameters():
    def block(a, b):
        shortcut = 0 if a == b else a * b + 2 * b
        return a * b * 9 + b * b * 9 + 4 * b + shortcut

    stages = sum(block(a, b) + block(b, b) for a, b in ((64, 64), (64, 128), (128, 256), (256, 512)))
    return 3 * 64 * 49 + 2 * 64 + stages + 512 * 11 + 11


def pruned_channels(rate, step):
    return [int(width * rate**step) if 3 <= index <= 6 else width for index, width in enumerate(CHANNELS)]


def exact_counts():
    counts = {
        "resnet18": resnet18_parameters(),
        "student": student_parameters(CHANNELS),
        "conv-twin": twin_parameters(CHANNELS),
        "conv-student-a": twin_parameters(CHANNELS) + 256 * 256 + 256,
        "conv-student-b": twin_parameters(CHANNELS) + convolution(256, 256, 1),
    }
    steps = [(rate, step) for rate in (0.95, 0.9) for step in range(1, 6)]
    return counts | {f"student-{r}-{k}": student_parameters(pruned_channels(r, k)) for r, k in steps}


def test_published_parameter_counts_follow_from_the_architectures(committed):
    counts = exact_counts()
    stated = {
        model: one.equals
        for one in committed.claims
        if one.kind == "parameters" and one.equals is not None
        for model in one.models
    }
    assert stated == counts


def published(committed):
    return {one.model: one for one in committed.claims if getattr(one, "published", None) is not None}


def test_tolerances_are_two_standard_deviations_of_the_public_runs(committed):
    runs = {
        "student-scratch": [80.00, 77.99, 78.29, 79.94, 77.4, 77.45],
        "student-distilled-scratch": [80.82, 79.94, 80.56, 79.80, 80.23, 80.56],
        "student-distilled-finetuned": [82.74, 82.51, 81.52, 82.13, 82.24, 83.16],
    }
    for model, values in runs.items():
        stated = published(committed)[model].tolerance
        assert stated == pytest.approx(math.ceil(20 * statistics.stdev(values)) / 10)


def test_published_numbers_are_of_the_data_they_were_published_for(committed):
    assert len(published(committed)) == 17
    for one in committed.claims:
        assert one.data == ("food-11" if one in published(committed).values() else None)


def test_the_reports_own_numbers_satisfy_the_reports_claims(committed):
    numbers = {model: one.published for model, one in published(committed).items()}
    checked = []
    for one in committed.claims:
        if one.source.startswith("report") and one.kind in ("comparison", "curve"):
            parts = quantities(one, lambda model, _: [numbers[model]])
            assert judge_exact(parts, region(one)).verdict is Verdict.REPRODUCED, one.id
            checked.append(one.id)
    assert len(checked) == 14


def test_every_claim_says_where_it_comes_from(committed):
    for one in committed.claims:
        assert one.source.split(",")[0] in {"report", "course", "ours", "other public reports"}
        assert one.statement.endswith(".")
        assert one.note is None or one.note.endswith(".")
        if one.source.startswith("report, question"):
            assert one.source.startswith(f"report, question {one.question}")


def test_every_curve_is_in_order_of_size(committed):
    counts = exact_counts()
    curves = [one for one in committed.claims if isinstance(one, CurveClaim)]
    assert curves
    for one in curves:
        widths = ["-".join(["student", *model.split("-")[1:3]]) for model in one.models if "pruned" in model]
        sizes = [counts[width] for width in widths]
        assert sizes == sorted(sizes, reverse=True)
        assert len(widths) == 5
