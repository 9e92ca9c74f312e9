import math
import statistics
from itertools import pairwise

import pytest

from pytest_claims.claims.claims_file import load_claims
from pytest_claims.claims.curve import CurveClaim
from pytest_claims.keys.code_fingerprint import ROOT
from pytest_claims.verdicts.judging import judge_exact
from pytest_claims.verdicts.verdict import Verdict

CHANNELS = [16, 32, 64, 128, 256, 256, 256, 256]


@pytest.fixture(scope="module")
def committed():
    return load_claims(ROOT / "expected_results.json")


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
            parts = one.quantities(lambda model, _: [numbers[model]])
            assert judge_exact(parts, one.region()).verdict is Verdict.REPRODUCED, one.id
            checked.append(one.id)
    assert len(checked) == 14


def test_every_claim_says_where_it_comes_from(committed):
    for one in committed.claims:
        assert one.source.split(",")[0] in {"report", "course", "ours", "other public reports"}
        assert one.statement.endswith(".")
        assert one.note is None or one.note.endswith(".")
        if one.source.startswith("report, question"):
            assert one.source.startswith(f"report, {one.section}")


def test_every_curve_is_in_order_of_size(committed):
    counts = exact_counts()
    curves = [one for one in committed.claims if isinstance(one, CurveClaim)]
    assert curves
    for one in curves:
        widths = ["-".join(["student", *model.split("-")[1:3]]) for model in one.models if "pruned" in model]
        sizes = [counts[width] for width in widths]
        assert sizes == sorted(sizes, reverse=True)
        assert len(widths) == 5


def test_every_claim_asks_for_measurements_of_the_models_that_it_needs(committed):
    for one in committed.claims:
        asked = set()

        def lookup(model, measure, asked=asked):
            asked.add(model)
            return [50.0, 51.0]

        assert one.quantities(lookup)
        assert asked == set(one.needed_models())
