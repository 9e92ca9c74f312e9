import json
import os
import re
from contextlib import suppress

import pytest
from claim_entries import BODIES, entry, results, written
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_claims.claims.claim import ClaimsError, Recorded
from pytest_claims.claims.claims_file import check_names, load_claims, record, save_claims, with_recorded
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.recipes.measure import BUILT_IN, Measure
from pytest_claims.verdicts.judging import Case, judge
from pytest_claims.verdicts.looks import Looks
from pytest_claims.verdicts.region import Region
from pytest_claims.verdicts.verdict import Judgement, Verdict

COMMITTED = ROOT / "expected_results.json"
fast = settings(deadline=None, max_examples=40)


# Reading


@pytest.mark.parametrize("kind", BODIES)
def test_each_kind_is_read_back_as_it_was_written(tmp_path, kind):
    path = written(tmp_path / "claims.json", entry(kind))
    loaded = load_claims(path)
    assert loaded.claims[0].kind == kind
    assert loaded.claims[0].model_dump(mode="json", exclude_unset=True) == entry(kind)


WRONG_FIELDS = [
    ("size", {"kind": "sise"}, "'kind' is 'sise', should be one of parameters, size, accuracy, comparison, curve"),
    ("size", {"kind": ...}, "'kind' is missing, should be one of parameters"),
    ("size", {"measure": ...}, "the field 'measure' is missing"),
    ("size", {"measure": ..., "mesure": "bytes"}, "the field 'mesure' is unknown; did you mean 'measure'"),
    ("size", {"measure": "a byte"}, "measure is 'a byte': String should match pattern"),
    ("size", {"ratio_at_leest": 1}, "'ratio_at_leest' is unknown; did you mean 'ratio_at_least'"),
    ("size", {"zzz": 1}, "'zzz' is unknown; the fields are by_design, data, id, kind, measure"),
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
    ("parameters", {"equals": 10**400}, "Input should be"),
    (
        "size",
        {"recorded": {"x": {"verdict": "good"}}},
        "Input should be 'reproduced', 'refuted', 'practically equal' or 'inconclusive'",
    ),
    ("parameters", {"equals": -1}, "equals is -1: Input should be greater than or equal to 0"),
    ("parameters", {"models": []}, "models is []: Tuple should have at least 1 item"),
    ("parameters", {"models": ["a", "a"]}, "'models' names 'a' twice"),
    ("parameters", {"models": ["A b"]}, "models[0] is 'A b': String should match pattern"),
    ("accuracy", {"tolerance": ...}, "'published' and 'tolerance' should be given together"),
    ("accuracy", {"tolerance": 0}, "tolerance is 0: Input should be greater than 0"),
    ("accuracy", {"at_least": 3}, "'published' stands beside 'at_least' or 'at_most'"),
    ("accuracy", {"published": ..., "tolerance": ...}, "nothing is asked: give 'published', or 'at_least'"),
    ("accuracy", {"measure": ""}, "measure is '': String should match pattern"),
    ("comparison", {"at_most": ...}, "nothing is asked: give 'above', or 'at_least' or 'at_most'"),
    ("comparison", {"at_least": 0.5}, "'at_least' is 0.5, should be below 'at_most', 0.5"),
    ("comparison", {"equal_within": 0}, "equal_within is 0: Input should be greater than 0"),
    (
        "comparison",
        {"equal_within": 0.5},
        "'equal_within' is 0.5, and all that lies within is allowed",
    ),
    ("comparison", {"at_least": -0.1, "equal_within": 0.7}, "'equal_within' is 0.7, and no more is allowed anyway"),
    ("curve", {"equal_within": 1}, "'equal_within' is unknown; the fields are"),
    ("curve", {"margin": -1}, "the margin of a falling curve is -1, should be 0 or more"),
    ("curve", {"shape": "accelerating", "models": ["a", "b"]}, "'models' should be 3 or more"),
    ("curve", {"shape": "rising"}, "shape is 'rising': Input should be 'falling' or 'accelerating'"),
    ("curve", {"section": ...}, "the field 'section' is missing"),
    ("curve", {"section": 7}, "section is 7: Input should be a valid string"),
    ("curve", {"section": " "}, "section is ' ': String should match pattern"),
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


@pytest.mark.parametrize("wrong", ["Q1-x", "q1_x", "q1-X", "q1-x-", "-q1-x", "q1--x", "q1 x", "q1-x\n", "", 3])
def test_an_id_that_is_not_kebab_case_is_refused(tmp_path, wrong):
    path = written(tmp_path / "claims.json", entry("size", id=wrong))
    with pytest.raises(ClaimsError, match=r"claims\[0\] .*: id is "):
        load_claims(path)


@pytest.mark.parametrize("name", ["q5-x", "lenet", "8bit-is-enough", "2"])
def test_an_id_needs_no_more_than_to_be_kebab_case(tmp_path, name):
    path = written(tmp_path / "claims.json", entry("size", id=name, section="any"))
    assert load_claims(path).claims[0].id == name


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
    ('{"format": 1, "title": " ", "claims": []}', "title is ' ': String should match pattern"),
    ('{"format": 1, "sections": {"a": ""}, "claims": []}', "sections.a is '': String should match pattern"),
    ('{"format": 1, "sections": ["a"], "claims": []}', "sections is ['a']: Input should be"),
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


def with_sections(path, sections, *entries):
    path.write_text(json.dumps({"format": 1, "title": "All of it", "sections": sections, "claims": entries}))
    return path


def test_a_section_that_the_file_has_no_title_for_is_refused(tmp_path):
    given_entries = (entry("size"), entry("curve", id="q1-y", section="question 2"))
    path = with_sections(tmp_path / "claims.json", {"question 1": "One", "other": "Two"}, *given_entries)
    with pytest.raises(ClaimsError) as caught:
        load_claims(path)
    told = "claims[1] (q1-y): section 'question 2' is not among question 1, other"
    assert str(caught.value) == f"{path}: {told}"


def test_a_source_that_the_file_does_not_describe_is_refused(tmp_path):
    entries = (entry("size", source="theirs"), entry("curve", id="q1-y", source="ours"))
    document = {"format": 1, "sources": {"theirs": "The report", "others": "Any other"}, "claims": entries}
    path = tmp_path / "claims.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ClaimsError) as caught:
        load_claims(path)
    assert str(caught.value) == f"{path}: claims[1] (q1-y): source 'ours' is not among theirs, others"


def test_sources_are_read_and_written_back_and_any_will_do_without(tmp_path):
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({"format": 1, "sources": {"ours": "We"}, "claims": [entry("size")]}))
    loaded = load_claims(path)
    assert loaded.sources == {"ours": "We"}
    save_claims(loaded, path)
    assert load_claims(path) == loaded
    without = load_claims(written(tmp_path / "other.json", entry("size", source="a book, page 5")))
    assert without.sources == {}


def test_title_and_sections_are_read_and_written_back(tmp_path):
    path = with_sections(tmp_path / "claims.json", {"question 1": "One"}, entry("size"))
    loaded = load_claims(path)
    assert (loaded.title, loaded.sections) == ("All of it", {"question 1": "One"})
    save_claims(loaded, path)
    assert load_claims(path) == loaded
    without = load_claims(written(tmp_path / "other.json", entry("size", section="any")))
    assert (without.title, without.sections) == ("Claims", {})


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


@pytest.mark.slow
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


OPTIONAL = {"by_design", "data", "equal_within", "guards", "measure", "note", "recorded"}


@fast
@given(st.data())
def test_a_field_taken_away_is_missed_or_was_optional(tmp_path_factory, data):
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    index = data.draw(st.integers(0, len(document["claims"]) - 1))
    victim = document["claims"][index]
    name = data.draw(st.sampled_from(sorted(victim.keys() - OPTIONAL)))
    assume(not (name in ("ratio_at_least", "at_least") and {"ratio_at_most", "at_most"} & victim.keys()))
    assume(not (name in ("ratio_at_most", "at_most") and {"ratio_at_least", "at_least"} & victim.keys()))
    # Of bounds; that one number can't be reproduced is told.
    assume(not (name == "should_be" and "equals" not in victim))
    del victim[name]
    path = tmp_path_factory.mktemp("claims") / "claims.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ClaimsError) as caught:
        load_claims(path)
    assert f"claims[{index}]" in str(caught.value)


# Names


MEASURES = {measure.name: measure for measure in (*BUILT_IN, Measure("loss"), Measure("layers", exact=True))}


def check_models(loaded, models=("a", "b", "c")):
    check_names(loaded, models, MEASURES, ("fractal", "food-11"), ("default", "quick"))


def test_a_model_that_no_recipe_makes_is_refused_with_the_closest():
    loaded = results(entry("curve"), entry("comparison", id="q1-y", pairs=[["student-0.95-6", "a"]]))
    with pytest.raises(ClaimsError, match=r"claims\[1\] \(q1-y\): no recipe .*'student-0.95-6'; did you mean '"):
        check_models(loaded, {"a", "b", "c", "student-0.95-1", "teacher"})
    with pytest.raises(ClaimsError, match=r"'student-0.95-6'$"):
        check_models(loaded, ["a", "b", "c"])
    check_models(loaded, ["a", "b", "c", "student-0.95-6"])


def test_data_and_profiles_that_are_not_there_are_refused():
    elsewhere = results(entry("comparison", data="food11"))
    with pytest.raises(ClaimsError, match=r"\(q1-x\): no profile has the data 'food11'; did you mean 'food-11'"):
        check_models(elsewhere)
    with pytest.raises(ClaimsError, match=r"recorded for the profile 'x', must be one of default, quick"):
        check_models(results(entry("comparison", recorded={"x": {"verdict": "refuted"}})))


def test_a_measure_that_is_not_known_is_refused():
    check_models(results(entry("accuracy", measure="loss"), entry("size", id="q1-y", measure="layers")))
    with pytest.raises(ClaimsError, match=r"\(q1-x\): no such measure is known 'byte'; did you mean 'bytes'"):
        check_models(results(entry("size", measure="byte")))
    with pytest.raises(ClaimsError, match=r"known 'x', must be one of parameters, macs, .*, loss, layers"):
        check_models(results(entry("curve", measure="x")))


@pytest.mark.parametrize("kind", ["size", "parameters"])
@pytest.mark.parametrize("measure", ["accuracy", "loss"])
def test_a_claim_that_one_seed_settles_is_about_an_exact_measure(kind, measure):
    told = rf"\(q1-x\): '{measure}' differs from seed to seed, a claim of kind '{kind}' should be about an exact"
    with pytest.raises(ClaimsError, match=told):
        check_models(results(entry(kind, measure=measure)))


# Recording and writing


def test_recording_touches_one_profile_of_the_named_claims_only():
    old = {"quick": {"verdict": "inconclusive"}, "small": {"verdict": "refuted"}}
    before = results(entry("size", recorded=old), entry("curve", id="q1-y", recorded=old))
    judged = judge(Case([[79.0, 80.0, 81.0], [5.0, 5.0, 5.0]], Region(lower=0)))
    after = with_recorded(before, "quick", {"q1-y": record(judged, "torch 1")})
    assert after.claims[0] == before.claims[0]
    assert after.claims[1].recorded["small"] == before.claims[1].recorded["small"]
    new = after.claims[1].recorded["quick"]
    assert new.verdict is Verdict.REPRODUCED
    # t(0.95, 2) / sqrt(3) = 1.6859
    interval = {"lower": 78.3141, "upper": 81.6859, "confidence": 0.9}
    assert new.model_dump()["estimates"][0] == {"mean": 80, "sd": 1, "n": 3, **interval}
    assert before.claims[1].recorded["quick"].verdict is Verdict.INCONCLUSIVE


def test_recorded_profiles_stand_in_order_whatever_came_first():
    refuted = Recorded(verdict=Verdict.REFUTED)
    one = with_recorded(with_recorded(results(entry("size")), "b", {"q1-x": refuted}), "a", {"q1-x": refuted})
    assert list(one.claims[0].recorded) == ["a", "b"]


def test_recording_an_unknown_claim_is_refused():
    with pytest.raises(ClaimsError, match=r"no claim has the id 'q1-z'; did you mean 'q1-x'"):
        with_recorded(results(entry("size")), "quick", {"q1-z": Recorded(verdict=Verdict.REFUTED)})


def test_one_seed_is_recorded_without_an_interval():
    part = record(judge(Case([[3.5]], Region(lower=0))), "torch 1").estimates[0]
    assert (part.mean, part.sd, part.n, part.lower, part.upper) == (3.5, None, 1, None, None)
    assert part.model_fields_set == {"mean", "sd", "n", "lower", "upper"}


def test_the_confidence_of_a_look_is_recorded_and_read_back(tmp_path):
    judged = judge(Case([[0.1, -0.1, 0.0, 0.1]], Region(lower=0.05), equality=0.5), Looks(2))
    better = entry("comparison", at_most=..., above=0.05, equal_within=0.5)
    save_claims(with_recorded(results(better), "quick", {"q1-x": record(judged, "torch 1")}), tmp_path / "claims.json")
    recorded = load_claims(tmp_path / "claims.json").claims[0].recorded["quick"]
    assert recorded.verdict is Verdict.EQUAL
    assert [(part.n, part.confidence) for part in recorded.estimates] == [(4, 0.975)]


def test_what_does_not_apply_is_not_recorded():
    with pytest.raises(ClaimsError, match="nothing to record"):
        record(Judgement(Verdict.NOT_APPLICABLE, (), 1.0), "torch 1")


def test_the_committed_file_is_written_back_byte_by_byte(tmp_path):
    path = tmp_path / "claims.json"
    save_claims(load_claims(COMMITTED), path)
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
    },
    optional={"confidence": st.none() | st.floats(0.1, 0.9999)},
)
records = st.fixed_dictionaries(
    {"verdict": st.sampled_from(["reproduced", "refuted", "practically equal", "inconclusive"])},
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
