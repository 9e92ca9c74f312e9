"""The engine is for any report: it knows nothing of ours."""

import re

import pytest

from pytest_claims.keys.code_fingerprint import ROOT

FORBIDDEN = re.compile(
    r"resnet|student(?! t\b)|\bteachers?\b|food-?11|imagenet|\bquestion [1-4]\b"
    r"|\b(?:import|from) (?:experiments|compression)\b",
    re.IGNORECASE,
)
FILES = sorted(
    path for path in (ROOT / "pytest_claims").rglob("*") if path.is_file() and "__pycache__" not in path.parts
)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_a_file_of_the_engine_has_no_word_of_our_report(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"{number}: {line}" for number, line in enumerate(lines, 1) if FORBIDDEN.search(line)] == []


@pytest.mark.parametrize(
    "text",
    [
        *("ResNet18", "the student", "a Teacher", "teachers", "Food-11", "FOOD11", "ImageNet's", "of question 3"),
        *("import experiments.project", "from compression.cost import x", "    from experiments import y"),
    ],
)
def test_what_it_must_not_know_is_found(text):
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize("text", ["a Student t interval", "import compressed", "from experiment import", "question 12"])
def test_what_only_looks_like_it_may_stand(text):
    assert not FORBIDDEN.search(text)
