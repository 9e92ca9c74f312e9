import ast
import json
import subprocess
import sys
from itertools import count

import pytest

from pytest_claims.keys import code_fingerprint as fingerprint_module
from pytest_claims.keys.code_fingerprint import ROOT, code_fingerprint, module_path, reachable_modules
from pytest_claims.keys.definitions import used_statements

PACKAGES = ("compression", "experiments", "pytest_claims")
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
ENGINE_MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "pytest_claims").rglob("*.py")
    if "template" not in path.parts
]
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
    return {name: code_fingerprint([name], [root]) for name in MODULES}


def reached(*names, root=ROOT):
    return set(reachable_modules(names, [root]))


def made_of(*names):
    """What counts for runs of our builders."""
    return reached(*names, "pytest_claims.workers.making")


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
    assert reached("experiments.builder", root=root) == {"experiments", "experiments.builder", "experiments.other"}


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
    assert reached("experiments.builder", root=root) == {"experiments", "experiments.builder"}


def test_modules_may_import_each_other(write):
    root = write(
        {"experiments/other.py": "import experiments.builder", "experiments/builder.py": "import experiments.other"}
    )
    assert reached("experiments.other", root=root) == reached("experiments.builder", root=root)


def test_the_order_of_modules_does_not_count_but_their_names_do(write):
    root = write({"experiments/copy.py": TREE["experiments/other.py"]})
    assert code_fingerprint(MODULES, [root]) == code_fingerprint(MODULES[::-1], [root])
    assert code_fingerprint(["experiments.copy"], [root]) != code_fingerprint(["experiments.other"], [root])


def test_a_missing_module_is_named(write):
    root = write()
    with pytest.raises(ModuleNotFoundError, match=r"no module 'experiments\.absent' under .*") as caught:
        code_fingerprint(["experiments.absent"], [root, root / "elsewhere"])
    assert f"{root} or {root / 'elsewhere'}" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "text", "found"),
    [
        ("compression/deep/near.py", "from . import far", {"compression.deep.far"}),
        ("compression/deep/near.py", "from .far import far", {"compression.deep.far"}),
        ("compression/deep/near.py", "from .. import flat", {"compression.flat"}),
        ("compression/deep/near.py", "from ..flat import X", {"compression.flat"}),
        ("compression/deep/near.py", "from .deeper.bottom import X", {"compression.deep.deeper.bottom"}),
        ("compression/deep/__init__.py", "from .far import far", {"compression.deep.far"}),
        ("compression/deep/__init__.py", "from . import far", {"compression.deep.far"}),
        ("compression/deep/__init__.py", "from .. import flat", {"compression.flat"}),
        ("compression/deep/near.py", "from . import absent\nfrom .absent import X", set()),
    ],
)
def test_relative_imports_are_followed(write, module, text, found):
    files = dict.fromkeys(("compression/flat.py", "compression/deep/deeper/bottom.py"), "X = 1")
    root = write({**files, "compression/deep/deeper/__init__.py": "", module: text})
    name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    parents = {"compression", "compression.deep"}
    deeper = {"compression.deep.deeper"} if "deeper" in text else set()
    assert reached(name, root=root) == parents | deeper | {name} | found


def test_an_edit_counts_for_whoever_imports_it_relatively(write):
    importing = {"experiments/builder.py": "from .near import near\nfrom . import other\n"}
    for edited in ("experiments/near.py", "experiments/other.py", "compression/deep/far.py"):
        roots = write(importing), write({**importing, edited: TREE[edited] + "EDITED = 1\n"})
        before, after = (fingerprints(root)["experiments.builder"] for root in roots)
        assert before != after


SILENT = {
    "experiments/silent.py": "import experiments.behind\n\nDECIDES_BYTES = False\n",
    "experiments/behind.py": "X = 1\n",
    "experiments/builder.py": "import experiments.silent\n",
}


@pytest.mark.parametrize("edited", ["experiments/silent.py", "experiments/behind.py"])
def test_a_module_that_decides_no_byte_counts_for_nothing_nor_does_what_only_it_reaches(write, edited):
    before, after = (write(files) for files in (SILENT, {**SILENT, edited: SILENT[edited] + "EDITED = 1\n"}))
    assert fingerprints(before) == fingerprints(after)
    assert {"experiments.silent", "experiments.behind"} <= reached("experiments.builder", root=before)
    heard = set(reachable_modules(["experiments.builder"], [before], silent=False))
    assert heard == {"experiments", "experiments.builder"}


def test_what_a_silent_module_reaches_counts_for_whoever_reaches_it_without(write):
    files = {**SILENT, "experiments/builder.py": "import experiments.silent\nimport experiments.behind\n"}
    roots = write(files), write({**files, "experiments/behind.py": "X = 2\n"})
    before, after = (fingerprints(root)["experiments.builder"] for root in roots)
    assert before != after


@pytest.mark.parametrize(
    "text", ["DECIDES_BYTES = True", "DECIDES_BYTES = 0", "OTHER = False", "def f():\n    DECIDES_BYTES = False"]
)
def test_a_module_that_does_not_say_so_counts(write, text):
    files = {"experiments/builder.py": "import experiments.other"}
    before, after = (write({**files, "experiments/other.py": f"{text}\nX = {value}\n"}) for value in (1, 2))
    assert fingerprints(before)["experiments.builder"] != fingerprints(after)["experiments.builder"]


def test_silent_are_those_that_only_write_files_or_look_for_gpus():
    silent = {name for name, module in reachable_modules(ENGINE_MODULES).items() if module.silent}
    assert silent == {"pytest_claims.basics.atomic_file", "pytest_claims.keys.gpus"}


@pytest.fixture
def versions(monkeypatch):
    """Gives packages other versions, and takes care that they are asked for anew."""

    def change(**changed):
        real = fingerprint_module.version
        monkeypatch.setattr(
            fingerprint_module, "version", lambda name: changed.get(name.replace("-", "_")) or real(name)
        )
        forget()

    def forget():
        fingerprint_module._version.cache_clear()
        fingerprint_module._fingerprint.cache_clear()

    yield change
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("import numpy.random", "numpy"),
        ("from numpy import random", "numpy"),
        ("def build():\n    import numpy as np", "numpy"),
        ("from PIL.Image import open", "pillow"),
        ("import markdown_it", "markdown_it_py"),  # whose name differs from its package's
    ],
)
def test_other_peoples_packages_count_by_their_version(write, versions, text, distribution):
    root = write({"experiments/builder.py": text})
    before = fingerprints(root)
    versions(**{distribution: "0.0.1"})
    after = fingerprints(root)
    assert {name for name in MODULES if before[name] != after[name]} == {"experiments.builder"}


@pytest.mark.parametrize(
    "text",
    [
        "import scipy, json, experiments.other",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy",
        "import lies_about",
    ],
)
def test_the_version_of_a_package_that_is_not_imported_does_not_count(write, versions, text):
    root = write({"experiments/builder.py": text})
    before = fingerprints(root)
    versions(numpy="0.0.1")
    assert fingerprints(root) == before


def test_a_package_of_a_silent_module_does_not_count(write, versions):
    root = write({**SILENT, "experiments/behind.py": "import numpy\n"})
    before = fingerprints(root)
    versions(numpy="0.0.1")
    assert fingerprints(root) == before


def test_the_engine_is_found_wherever_a_project_is(write):
    root = write(
        {
            "experiments/builder.py": "from pytest_claims.basics.limits import LOCAL",
            "pytest_claims/basics/limits.py": "X",
        }
    )
    found = reachable_modules(["experiments.builder"], [root])
    engine = {"pytest_claims", "pytest_claims.basics", "pytest_claims.basics.limits"}
    assert set(found) == {"experiments", "experiments.builder", *engine}
    assert found["pytest_claims.basics.limits"].path == ROOT / "pytest_claims/basics/limits.py"
    assert found["experiments.builder"].path == root / "experiments/builder.py"
    assert reachable_modules(["pytest_claims.basics.limits"]).keys() == engine


def test_the_first_of_the_projects_folders_that_has_a_module_counts(write):
    first, second = write(), write({"experiments/other.py": "X = 2", "experiments/only.py": "import experiments.other"})
    found = reachable_modules(["experiments.only"], [first, second])
    assert {name: module.path.relative_to(ROOT.anchor).parts for name, module in found.items()} == {
        "experiments": (first / "experiments/__init__.py").parts[1:],
        "experiments.only": (second / "experiments/only.py").parts[1:],
        "experiments.other": (first / "experiments/other.py").parts[1:],
    }


FUNCTIONS = """
from experiments.near import near
from experiments.other import other
def build():
    return near()
def neighbour():
    return other()
"""


@pytest.mark.parametrize(
    ("edited", "text", "counts"),
    [
        ("experiments/builder.py", FUNCTIONS.replace("return near()", "return -near()"), True),
        ("experiments/builder.py", FUNCTIONS.replace("return other()", "return -other()"), False),
        ("experiments/near.py", TREE["experiments/near.py"].replace("return ", "return -"), True),
        ("experiments/near.py", TREE["experiments/near.py"] + "def unused():\n    return 3\n", False),
        ("experiments/other.py", "def other():\n    return 3\n", False),
        ("compression/deep/far.py", "def far():\n    return 3\n", True),
    ],
)
def test_of_a_function_what_it_uses_counts(write, edited, text, counts):
    files = {"experiments/builder.py": FUNCTIONS}
    roots = write(files), write({**files, edited: text})
    before, after = (code_fingerprint(["experiments.builder:build"], [root]) for root in roots)
    assert (before != after) == counts


def test_a_missing_function_is_named_with_its_file(write):
    root = write()
    with pytest.raises(ModuleNotFoundError, match=r"experiments/builder\.py: has no 'absent'"):
        code_fingerprint(["experiments.builder:absent"], [root])


MAKERS = {
    *("builders", "workbench", "workbench.context", "workbench.compressed", "workbench.teaching"),
    *("models", "models.student_widths"),
}
"""Of ours, beside the builder itself."""

ROOMS = {"basics", "datasets", "keys", "recipes", "training", "workers"}
"""Of the engine's, with what a run is made with; the rest is about claims, plans and what is kept."""


@pytest.mark.parametrize("builder", BUILDERS)
def test_what_is_claimed_planned_or_kept_reaches_no_builder(builder):
    found = made_of(builder)
    others = {name for name in found if name.startswith("experiments.")} - {f"experiments.{name}" for name in MAKERS}
    assert others == {builder} | ({"experiments.builders.slim"} if "slim" in builder else set())
    engine = {name.split(".")[1] for name in found if name.startswith("pytest_claims.")}
    assert engine <= ROOMS
    inner = {name for name in found if name.startswith(("pytest_claims.recipes.", "pytest_claims.workers."))}
    recipes = {f"pytest_claims.recipes.{name}" for name in ("catalog", "function", "measure", "recipe")}
    assert inner == {*recipes, "pytest_claims.workers.making"}
    assert "pytest_claims.training.run" not in found  # it is the code of recipes that are functions
    assert {
        "pytest_claims.training.training",
        "pytest_claims.training.augmentation",
        "pytest_claims.training.evaluation_mode",
        "compression.packing.state_file",
    } <= found


PACKED_MODELS = ("compression.packing.model_file", "compression.packing.layer_table")


def test_training_does_not_reach_what_only_compresses():
    found = made_of("experiments.builders.train")
    apart = {f"compression.{name}" for name in ("architecture", "batch_norm", "distillation", "low_rank", "pruning")}
    packing = {*PACKED_MODELS, "experiments.workbench.compressed", "experiments.workbench.teaching"}
    assert not (apart | packing | {"experiments.builders.quantize"}) & found


@pytest.mark.parametrize("operation", ["distill", "slim", "slim_finetune", "quantize"])
def test_the_reports_operations_do_not_reach_packed_models(operation):
    found = made_of(f"experiments.builders.{operation}")
    assert not {*PACKED_MODELS, "compression.low_rank", "experiments.workbench.compressed"} & found


def test_only_builders_architectures_and_the_engines_own_names_are_imported_by_a_name_that_is_computed():
    modules = reachable_modules([*BUILDERS, "pytest_claims.workers.making"], [ROOT])
    dynamic = {name for name, module in modules.items() if "import_module" in module.path.read_text("utf-8")}
    makers = {"pytest_claims.training.context", "pytest_claims.workers.making"}
    assert dynamic == {*makers, "pytest_claims", "experiments.models"}


def test_no_module_that_makes_runs_takes_a_name_from_a_package_that_imports_it_when_it_is_asked_for():
    """Of such a name nobody can tell from which module it comes, so that module's edits would not count."""
    taken = []
    for name, module in reachable_modules([*BUILDERS, "pytest_claims.workers.making"], [ROOT]).items():
        for node in ast.walk(ast.parse(module.path.read_text("utf-8"))):
            package = module_path(node.module or "", [ROOT]) if isinstance(node, ast.ImportFrom) else None
            if package and package.name == "__init__.py":
                body = ast.parse(package.read_text("utf-8")).body
                taken += [
                    f"{name}: {node.module}.{alias.name}"
                    for alias in node.names
                    if not module_path(f"{node.module}.{alias.name}", [ROOT]) and not used_statements(body, alias.name)
                ]
    assert taken == []


def imported_by(module):
    """The project's modules that Python has after importing one, and whether torch is among the others."""
    script = f"import json, sys; import {module}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT).stdout
    names = set(json.loads(output))
    return {name for name in names if name.partition(".")[0] in PACKAGES}, "torch" in names


@pytest.mark.parametrize("module", ["pytest_claims.suite.suite", "experiments.project"])
def test_reached_is_what_python_imports_and_what_making_a_run_would_add(module):
    imported, with_torch = imported_by(module)
    assert imported <= reached(module)
    assert reached(module) - imported <= reached("pytest_claims.training.run", "pytest_claims.report.page")
    assert not with_torch


def test_fingerprints_do_not_depend_on_the_place_of_the_project(tmp_path):
    for package in ("compression", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert code_fingerprint(BUILDERS, [tmp_path]) == code_fingerprint(BUILDERS, [ROOT])
