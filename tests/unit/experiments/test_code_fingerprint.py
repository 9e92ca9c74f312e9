import ast
import json
import subprocess
import sys
from itertools import count

import pytest

from experiments.code_fingerprint import PACKAGES, ROOT, code_fingerprint, reachable_modules

TREE = {
    "compression/__init__.py": "",
    "compression/deep/__init__.py": "",
    "compression/deep/far.py": "def far():\n    return 1\n",
    "experiments/__init__.py": "",
    "experiments/near.py": "import compression.deep.far\n\n\ndef near():\n    return compression.deep.far.far()\n",
    "experiments/builder.py": "from experiments.near import near\n\n\ndef build():\n    return near()\n",
    "experiments/other.py": "def other():\n    return 2\n",
}
MODULES = ("experiments.builder", "experiments.near", "experiments.other", "compression.deep.far")
BUILDERS = sorted(
    f"experiments.builders.{path.stem}"
    for path in (ROOT / "experiments/builders").glob("*.py")
    if "\ndef build(" in path.read_text(encoding="utf-8")
)


@pytest.fixture
def write(tmp_path):
    """Writes a changed copy of the tree to a folder of its own, as each module is read once."""
    numbers = count()

    def write_tree(changed=()):
        root = tmp_path / str(next(numbers))
        for name, text in {**TREE, **dict(changed)}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return root

    return write_tree


def fingerprints(root):
    return {name: code_fingerprint([name], root) for name in MODULES}


@pytest.mark.parametrize(
    "text",
    [
        '"""A module."""\nfrom experiments.near import near\ndef build():\n    return near()',
        "from experiments.near import near  # why\n# more\n\n\n\n\ndef build():\n\n    return near()  # what\n",
        'from experiments.near import near\ndef build():\n    """Builds."""\n    return near()\n',
        "from experiments.near import (\n    near,\n)\ndef build(): return (near())\n",
    ],
)
def test_comments_docstrings_and_layout_do_not_count(write, text):
    assert fingerprints(write({"experiments/builder.py": text})) == fingerprints(write())


def test_docstrings_of_classes_and_attributes_do_not_count(write):
    plain = "X = 1\nclass A:\n    y = 2\n    async def f(self): return 1"
    told = 'X = 1\n"""One."""\nclass A:\n    "A."\n    y = 2\n    "Two."\n    async def f(self):\n        "F"; return 1'
    first, second = (write({"experiments/other.py": text}) for text in (plain, told))
    assert fingerprints(first) == fingerprints(second)


def test_a_string_that_is_a_value_counts(write):
    first, second = (write({"experiments/other.py": f"X = '{text}'\n"}) for text in ("a", "b"))
    assert fingerprints(first)["experiments.other"] != fingerprints(second)["experiments.other"]


@pytest.mark.parametrize(
    ("edited", "rebuilt"),
    [
        ("experiments/builder.py", {"experiments.builder"}),
        ("experiments/near.py", {"experiments.builder", "experiments.near"}),
        ("compression/deep/far.py", {"experiments.builder", "experiments.near", "compression.deep.far"}),
        ("compression/deep/__init__.py", {"experiments.builder", "experiments.near", "compression.deep.far"}),
        ("compression/__init__.py", {"experiments.builder", "experiments.near", "compression.deep.far"}),
        ("experiments/__init__.py", {"experiments.builder", "experiments.near", "experiments.other"}),
        ("experiments/other.py", {"experiments.other"}),
    ],
)
def test_an_edit_counts_for_whoever_reaches_it_and_for_nobody_else(write, edited, rebuilt):
    before, after = fingerprints(write()), fingerprints(write({edited: TREE[edited] + "EDITED = 1\n"}))
    assert {name for name in MODULES if before[name] != after[name]} == rebuilt


@pytest.mark.parametrize(
    "text",
    [
        "import experiments.other",
        "import experiments.other as renamed",
        "from experiments import other",
        "from experiments.other import other",
        "def build():\n    from experiments.other import other\n    return other()",
        "try:\n    import experiments.other\nexcept ImportError:\n    pass",
        "if True:\n    import experiments.other",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import experiments.other",
    ],
)
def test_every_form_of_import_is_followed(write, text):
    root = write({"experiments/builder.py": text})
    assert reachable_modules(["experiments.builder"], root) == {
        "experiments",
        "experiments.builder",
        "experiments.other",
    }


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from experiments.other import other",
        "import json, numpy.random, experimental.other",
        "from experiments import __doc__",
        "import experiments.missing",
    ],
)
def test_imports_for_type_checkers_and_of_others_are_not_followed(write, text):
    root = write({"experiments/builder.py": text})
    assert reachable_modules(["experiments.builder"], root) == {"experiments", "experiments.builder"}


def test_modules_may_import_each_other(write):
    root = write(
        {"experiments/other.py": "import experiments.builder", "experiments/builder.py": "import experiments.other"}
    )
    assert reachable_modules(["experiments.other"], root) == reachable_modules(["experiments.builder"], root)


def test_the_order_of_modules_does_not_count_but_their_names_do(write):
    root = write({"experiments/copy.py": TREE["experiments/other.py"]})
    assert code_fingerprint(MODULES, root) == code_fingerprint(MODULES[::-1], root)
    assert code_fingerprint(["experiments.copy"], root) != code_fingerprint(["experiments.other"], root)


def test_a_missing_module_is_named(write):
    root = write()
    with pytest.raises(ModuleNotFoundError, match=r"no module 'experiments\.absent' under .*") as caught:
        code_fingerprint(["experiments.absent"], root)
    assert str(root) in str(caught.value)


@pytest.mark.parametrize("builder", BUILDERS)
def test_what_is_claimed_planned_or_kept_reaches_no_builder(builder):
    reached = reachable_modules([builder, "experiments.making"])
    names = "augmentation builders datasets file_hash frozen_teacher gpus making models numerics recipe training"
    inner = (
        "builders.context builders.compressed builders.teaching datasets.dataset models.student_widths training_state"
    )
    makers = {f"experiments.{name}" for name in f"{names} {inner}".split()}
    others = {name for name in reached if name.startswith("experiments.")} - makers
    assert others == {builder} | ({"experiments.builders.slim"} if "slim" in builder else set())
    assert {"experiments.training", "experiments.augmentation", "compression.packing.state_file"} <= reached


def test_training_does_not_reach_what_only_compresses():
    reached = reachable_modules(["experiments.builders.train", "experiments.making"])
    apart = {
        f"compression.{name}" for name in ("architecture", "layers.batch_norm", "distillation", "low_rank", "pruning")
    }
    packing = {"compression.packing.model_file", "experiments.builders.compressed", "experiments.builders.teaching"}
    assert not (apart | packing | {"experiments.builders.quantize", "experiments.frozen_teacher"}) & reached


@pytest.mark.parametrize("operation", ["distill", "slim", "slim_finetune", "quantize"])
def test_the_reports_operations_do_not_reach_packed_models(operation):
    reached = reachable_modules([f"experiments.builders.{operation}", "experiments.making"])
    assert not {"compression.packing.model_file", "compression.low_rank", "experiments.builders.compressed"} & reached


def test_only_operation_and_family_are_imported_by_a_name_that_is_computed():
    modules = reachable_modules([*BUILDERS, "experiments.making"])
    dynamic = {name for name in modules if "import_module" in source(name)}
    assert dynamic == {"experiments.making", "experiments.models"}


def test_the_project_has_no_relative_imports_which_would_be_missed():
    trees = [ast.parse(path.read_text("utf-8")) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imports
    assert not [node for node in imports if node.level]


def source(name):
    stem = ROOT.joinpath(*name.split("."))
    path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    return path.read_text("utf-8")


def test_reached_is_what_python_imports():
    script = "import json, sys; import experiments.suite; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT).stdout
    imported = {name for name in json.loads(output) if name.partition(".")[0] in PACKAGES}
    assert imported == reachable_modules(["experiments.suite"])
    assert "torch" not in json.loads(output)


def test_fingerprints_do_not_depend_on_the_place_of_the_project(tmp_path):
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert code_fingerprint(BUILDERS, tmp_path) == code_fingerprint(BUILDERS)
