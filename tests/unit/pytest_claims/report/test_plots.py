import io
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from PIL import Image

from experiments.plots import PLOTS
from pytest_claims.report import plots as plots_module
from pytest_claims.report.conditions import Outline
from pytest_claims.report.drawn_before import RECORD
from pytest_claims.report.plot_sizes import bytes_text, draw_sizes
from pytest_claims.report.plots import SIZES, all_plots, write_plots

pytestmark = pytest.mark.slow

NAMES = [f"{plot.name}.{extension}" for plot in (SIZES, *PLOTS) for extension in ("png", "svg")]


@pytest.fixture(scope="module")
def plots(findings, conditions, tmp_path_factory):
    before = dict(mpl.rcParams)
    paths = write_plots(findings, conditions, tmp_path_factory.mktemp("plots"))
    assert dict(mpl.rcParams) == before
    return paths


def test_the_plots_are_the_one_of_sizes_and_the_projects(conditions):
    assert all_plots(conditions.outline) == (SIZES, *PLOTS)
    assert all_plots(Outline()) == (SIZES,)


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
    monkeypatch.setattr(
        plots_module, "_draw", lambda plot, models, conditions, _: drawn.append((len(models), conditions.title))
    )
    other = replace(conditions, profile="other")
    for found, under in ((few, conditions), (few, conditions), (few, other), (findings, other)):
        write_plots(found, under, tmp_path)
    assert len(drawn) == 3 * len(all_plots(conditions.outline))
    assert len(set(drawn)) == 3


def test_sizes_have_a_logarithmic_axis_a_point_for_each_final_model_and_labels_that_do_not_overlap(models, conditions):
    figure = draw_sizes(models, conditions)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    shown = {name: model for name, model in models.items() if name not in conditions.outline.intermediate}
    assert models.keys() - shown.keys() == {
        *(f"cnn-pruned-{criterion}" for criterion in ("random", "signed-gamma", "filter-norm", "taylor")),
        *(f"cnn-low-rank-{ranks}" for ranks in ("uniform", "allocated")),
        *(f"cnn-{kind}-{weights}" for kind in ("grouped", "separable") for weights in ("fitted", "random")),
        *(f"cnn-{kind}-random-tuned" for kind in ("pruned", "grouped", "separable")),
        *(name for name, family in conditions.outline.families.items() if family == "control"),
    }
    assert drawn_sizes(axes) == {model.size for model in shown.values()}
    assert sum(len(line.get_xdata()) for line, _, _ in axes.containers) == len(shown)
    labels = [text for text in axes.texts if text.get_text() in models]
    assert len(labels) > 10
    extents = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[:i])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(
        dict.fromkeys(
            family
            for family in conditions.outline.families.values()
            if any(model.family == family for model in shown.values())
        )
    )


def test_bytes_read_as_kilobytes_and_megabytes():
    assert [bytes_text(size) for size in (200_000, 268_472, 999_499, 999_500, 44_730_620)] == [
        *("200 kB", "268 kB", "999 kB", "1 MB", "44.7 MB")
    ]


def test_one_seed_draws_no_differences_of_models(judged, conditions, tmp_path):
    one = replace(conditions, seeds=(0,))
    assert {path.stem for path in write_plots(judged(seeds=1), one, tmp_path)} == {"accuracy_over_bytes"}


def test_a_single_model_is_a_plot(conditions, models):
    figure = draw_sizes({"student-scratch": models["student-scratch"]}, conditions)
    figure.savefig(io.BytesIO(), format="svg")
    assert len(figure.axes[0].containers) == 1


def test_models_without_a_family_are_drawn_beside_those_that_have_one(conditions, models):
    names = ("student-scratch", "cnn-group")
    alone, other = (replace(models[name], family=family) for name, family in zip(names, ("", "b"), strict=True))
    figure = draw_sizes({alone.name: alone, other.name: other}, only(conditions, families={other.name: "b"}))
    assert drawn_sizes(figure.axes[0]) == {alone.size, other.size}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b"]


def test_without_families_there_is_no_legend(conditions, models):
    model = replace(models["student-scratch"], family="")
    figure = draw_sizes({model.name: model}, only(conditions))
    assert drawn_sizes(figure.axes[0]) == {model.size}
    assert figure.legends == []


def test_curves_join_the_models_that_were_measured(conditions, models):
    names = ["student-scratch", "cnn-group", "not-measured", "teacher-scratch"]
    figure = draw_sizes(models, only(conditions, curves=(names, ["cnn-ordinary", "absent"])))
    joined = [line for line in figure.axes[0].lines if line.get_marker() == "None" and len(line.get_xdata()) == 3]
    measured = [models[name] for name in names if name in models]
    (line,) = [line for line in joined if list(line.get_xdata()) == [model.size for model in measured]]
    assert list(line.get_ydata()) == [model.estimate.mean for model in measured]


def only(conditions, **fields):
    return replace(conditions, outline=Outline(**fields))


def drawn_sizes(axes):
    return {size for line, _, _ in axes.containers for size in line.get_xdata()}
