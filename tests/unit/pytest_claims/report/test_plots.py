import io
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from PIL import Image

from experiments.plots.distillation import draw_distillation
from experiments.plots.pruning import draw_pruning
from pytest_claims.report import plots as plots_module
from pytest_claims.report.accuracies import measured_models
from pytest_claims.report.drawn_before import RECORD
from pytest_claims.report.measured_models import runs_by_model
from pytest_claims.report.plot_sizes import bytes_text, draw_sizes, family, is_result
from pytest_claims.report.plots import PLOTS, write_plots

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.slow

NAMES = [f"{plot.name}.{extension}" for plot in PLOTS for extension in ("png", "svg")]


@pytest.fixture(scope="module")
def models(findings):
    return measured_models(runs_by_model(findings))


@pytest.fixture(scope="module")
def plots(findings, conditions, tmp_path_factory):
    before = dict(mpl.rcParams)
    paths = write_plots(findings, conditions, tmp_path_factory.mktemp("plots"))
    assert dict(mpl.rcParams) == before
    return paths


def test_every_plot_is_written_as_png_and_svg(plots):
    assert [path.name for path in plots] == NAMES
    assert sorted(path.name for path in plots[0].parent.iterdir()) == sorted([RECORD, *NAMES])


def test_png_files_are_images_with_something_on_them(plots):
    for path in (path for path in plots if path.suffix == ".png"):
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 500
            colors = image.convert("RGB").getcolors(maxcolors=2**24)
        white = sum(count for count, color in colors if color == (255, 255, 255))
        share = white / sum(count for count, _ in colors)
        assert 0.5 < share < 0.99
        assert len(colors) > 100


def test_svg_files_are_drawings_without_a_date(plots):
    for path in (path for path in plots if path.suffix == ".svg"):
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(root.findall(".//{http://www.w3.org/2000/svg}path")) > 20
        assert "dc:date" not in path.read_text()


def test_svg_files_are_the_same_each_time(findings, conditions, plots, tmp_path):
    few = {name: findings[name] for name in ("q2-student-alone-below-teacher", "q2-distillation-helps-student")}
    first, second = (write_plots(few, conditions, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_nothing_to_draw_writes_nothing_and_removes_the_plots_of_a_former_session(findings, conditions, tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old")
    (tmp_path / "other.png").write_bytes(b"kept")
    untrained = {"q2-teacher-parameters": findings["q2-teacher-parameters"]}
    assert write_plots(untrained, conditions, tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "other.png"]


def written(paths):
    """Each file's bytes, and what tells whether it was written again."""
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in paths}


@pytest.fixture
def few(findings):
    return {name: findings[name] for name in ("q2-student-alone-below-teacher", "q2-distillation-helps-student")}


def test_what_has_not_changed_is_not_drawn_again(few, conditions, tmp_path, monkeypatch):
    first = write_plots(few, conditions, tmp_path)
    before = written(first)
    monkeypatch.setattr(plots_module, "_draw", lambda *_: pytest.fail("it is drawn again"))
    assert write_plots(few, conditions, tmp_path) == first
    assert written(first) == before


def test_a_file_that_is_not_as_it_was_drawn_is_drawn_again(few, conditions, tmp_path):
    paths = write_plots(few, conditions, tmp_path)
    before = [path.read_bytes() for path in paths]
    paths[0].write_bytes(before[0][:-1])
    (tmp_path / "question3.png").write_bytes(b"of another session")
    assert write_plots(few, conditions, tmp_path) == paths
    assert [path.read_bytes() for path in paths] == before
    assert not (tmp_path / "question3.png").exists()


def test_other_findings_and_other_conditions_are_drawn_anew(findings, few, conditions, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots_module, "_draw", lambda plot, models, subtitle, _: drawn.append((len(models), subtitle)))
    other = replace(conditions, profile="other")
    for found, under in ((few, conditions), (few, conditions), (few, other), (findings, other)):
        write_plots(found, under, tmp_path)
    assert len(drawn) == 3 * len(PLOTS)
    assert len(set(drawn)) == 3


def test_question_3_has_a_line_for_each_rate_and_protocol_with_its_intervals(models):
    figure = draw_pruning(models, "subtitle")
    (axes,) = figure.axes
    assert len(axes.containers) == 4
    for container, (rate, protocol) in zip(
        axes.containers, [(0.95, "tuned"), (0.9, "tuned"), (0.95, "bn"), (0.9, "bn")], strict=True
    ):
        names = ["student-distilled-finetuned", *(f"pruned-{rate}-{step}-{protocol}" for step in range(1, 6))]
        line, _, (bars,) = container
        assert list(line.get_xdata()) == [models[name].parameters for name in names]
        assert list(line.get_ydata()) == [models[name].estimate.mean for name in names]
        ends = [sorted(end for _, end in segment) for segment in bars.get_segments()]
        intervals = [(models[name].estimate.lower, models[name].estimate.upper) for name in names]
        assert [pytest.approx(end) for end in ends] == [list(interval) for interval in intervals]
    assert not axes.xaxis_inverted()
    assert len(figure.legends[0].get_texts()) == 5


def test_question_3_draws_only_what_was_measured(models):
    bn = {name: model for name, model in models.items() if "tuned" not in name.split("-")}
    (axes,) = draw_pruning(bn, "").axes
    assert len(axes.containers) == 2
    assert draw_pruning({name: models[name] for name in ("student-distilled-finetuned", "cnn-group")}, "") is None


def test_question_2_names_and_numbers_each_model(models):
    (axes,) = draw_distillation(models, "subtitle").axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert [label[-1] for label in labels] == list("abcde")
    numbers = [f"{models[name].estimate.mean:.2f}" for name in ("teacher-scratch", "student-distilled-finetuned")]
    shown = [annotation.get_text() for annotation in axes.texts]
    assert set(numbers) <= set(shown)
    assert "does not start at 0" in axes.get_xlabel()
    assert draw_distillation({"cnn-group": models["cnn-group"]}, "") is None


def test_sizes_have_a_logarithmic_axis_a_point_for_each_final_model_and_labels_that_do_not_overlap(models):
    figure = draw_sizes(models, "subtitle")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    drawn = {point for line, _, _ in axes.containers for point in line.get_xydata()[:, 0]}
    shown = {name: model for name, model in models.items() if is_result(name)}
    assert models.keys() - shown.keys() == {
        *(f"cnn-pruned-{criterion}" for criterion in ("random", "signed-gamma", "filter-norm", "taylor")),
        *(f"cnn-low-rank-{ranks}" for ranks in ("uniform", "allocated")),
        *(f"cnn-{kind}-{weights}" for kind in ("grouped", "separable") for weights in ("fitted", "random")),
        *(f"cnn-{kind}-random-tuned" for kind in ("pruned", "grouped", "separable")),
    }
    assert drawn == {model.size for model in shown.values()}
    assert sum(len(line.get_xdata()) for line, _, _ in axes.containers) == len(shown)
    labels = [text for text in axes.texts if text.get_text() in models]
    assert len(labels) > 10
    extents = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(
        dict.fromkeys(family(name).name for name in shown)
    )


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("teacher-scratch", "teacher"),
        ("teacher-finetuned-8bit", "quantized"),
        ("student-distilled-finetuned-16bit", "quantized"),
        ("student-distilled-scratch", "student"),
        ("conv-student-distilled", "convolutional student"),
        ("pruned-0.9-3-tuned", "pruned student"),
        ("cnn-ordinary-small", "question 4"),
        ("cnn-group", "question 4"),
        ("cnn-grouped-fitted-tuned", "compressed CNN"),
        ("cnn-2bit-tuned", "quantized"),
        ("cnn-composed-packed", "quantized"),
        ("student-packed", "quantized"),
    ],
)
def test_models_belong_to_families(model, name):
    assert family(model).name == name


def test_bytes_read_as_kilobytes_and_megabytes():
    assert [bytes_text(size) for size in (200_000, 268_472, 999_499, 999_500, 44_730_620)] == [
        *("200 kB", "268 kB", "999 kB", "1 MB", "44.7 MB")
    ]


def test_one_seed_is_drawn_without_intervals(judged, models):
    one = measured_models(runs_by_model(judged(seeds=1)))
    (axes,) = draw_pruning(one, "").axes
    for _, _, (bars,) in axes.containers:
        assert all(segment[0][1] == segment[1][1] for segment in bars.get_segments())
    content = io.BytesIO()
    axes.figure.savefig(content, format="png")
    assert content.tell() > 0


@pytest.mark.parametrize("draw", [draw_sizes, draw_distillation])
def test_a_single_model_is_a_plot(draw, models):
    figure = draw({"student-scratch": models["student-scratch"]}, "subtitle")
    figure.savefig(io.BytesIO(), format="svg")
    assert len(figure.axes[0].containers) == 1
