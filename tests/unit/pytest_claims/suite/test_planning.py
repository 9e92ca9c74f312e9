from dataclasses import replace

import pytest
from our_project import OURS, make_profile, operation

from experiments.recipes import report_recipes
from pytest_claims.recipes.catalog import Catalog
from pytest_claims.recipes.profile import ProfileRequest
from pytest_claims.recipes.recipe import Architecture, Augmentation, Budget, Recipe
from pytest_claims.suite import planning
from pytest_claims.suite.planning import make_plan, run_key

BUDGET = Budget(3, 64, "sgd", 0.1, 5e-4, "cosine", "float32", Augmentation(0.06, 15.0, True, 12))
TEACHER = Recipe("experiments.builders.train", Architecture("experiments.models.resnet18"), "target", BUDGET)
STUDENT = Recipe(
    "experiments.builders.distill",
    Architecture("experiments.models.student"),
    "target",
    BUDGET,
    (("temperature", 4.0),),
    (("teacher", TEACHER),),
)
CATALOG = Catalog({"teacher": TEACHER, "student": STUDENT})
DATA = {"target": "t" * 64, "source": "s" * 64}
ENVIRONMENT = {"torch": "2.9.0", "cpu": ["avx2"], "threads": 1}
PROFILE = make_profile("default", ProfileRequest())


def fixed(data):
    return lambda role, seed: data[role]


def effort(recipe):
    return 1.0 + len(recipe.architecture.module) * (recipe.budget.epochs if recipe.budget else 1)


def key(recipe=TEACHER, seed=0, parents=None, data=DATA, environment=ENVIRONMENT, name="teacher"):
    run = replace(CATALOG.run("teacher", seed), recipe=recipe, name=name)
    return run_key(run, parents or {}, data[recipe.data], environment, OURS.paths)


def test_a_key_depends_on_everything_that_decides_the_bytes():
    keys = [
        key(),
        key(seed=1),
        key(replace(TEACHER, budget=replace(BUDGET, learning_rate=0.2))),
        key(replace(TEACHER, architecture=Architecture("experiments.models.student"))),
        key(replace(TEACHER, settings=(("bits", 8),))),
        key(replace(TEACHER, data="source")),
        key(replace(TEACHER, builder="experiments.builders.slim")),
        key(parents={"initial": "a" * 64}),
        key(parents={"initial": "b" * 64}),
        key(parents={"original": "a" * 64}),
        key(data={**DATA, "target": "x" * 64}),
        key(environment={**ENVIRONMENT, "torch": "2.9.1"}),
        key(environment={**ENVIRONMENT, "cpu": []}),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(bytes.fromhex(each)) == 32 for each in keys)


def test_a_key_depends_on_nothing_else():
    assert key(name="renamed") == key()
    assert key(replace(TEACHER, family="large", curve="one", intermediate=True)) == key()
    assert key(data={**DATA, "source": "x" * 64}) == key()
    assert key(environment=dict(reversed(ENVIRONMENT.items()))) == key()
    parents = {"initial": "a" * 64, "original": "b" * 64}
    assert key(parents=parents) == key(parents=dict(reversed(parents.items())))


def test_a_key_depends_on_the_code_of_builder_model_and_writer(monkeypatch):
    asked = []

    def fingerprint(modules, paths):
        asked.append((sorted(modules), paths))
        return "edited"

    before = key()
    monkeypatch.setattr(planning, "code_fingerprint", fingerprint)
    assert key() != before
    modules = ["experiments.builders.train", "experiments.models.resnet18", "pytest_claims.workers.making"]
    assert asked == [(modules, OURS.paths)]


def test_a_builder_that_is_not_there_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"experiments\.builders\.shrink"):
        key(replace(TEACHER, builder="experiments.builders.shrink"))


def test_only_what_is_wanted_and_its_parents_is_planned():
    plan = make_plan(CATALOG, {"teacher": (0, 1)}, fixed(DATA), ENVIRONMENT, effort, OURS.paths)
    assert [planned.run.title for planned in plan.runs.values()] == ["teacher (seed 0)", "teacher (seed 1)"]
    plan = make_plan(CATALOG, {"student": (2,)}, fixed(DATA), ENVIRONMENT, effort, OURS.paths)
    assert [planned.run.title for planned in plan.runs.values()] == ["teacher (seed 2)", "student (seed 2)"]
    assert make_plan(CATALOG, {}, fixed(DATA), ENVIRONMENT, effort, OURS.paths).runs == {}


def report_plan(profile=PROFILE, data=DATA, environment=ENVIRONMENT, seeds=(0, 1), estimate=effort):
    catalog = report_recipes(profile)
    return catalog, make_plan(catalog, dict.fromkeys(catalog, seeds), fixed(data), environment, estimate, OURS.paths)


def test_each_run_is_planned_once_under_its_own_key():
    catalog, plan = report_plan()
    assert set(plan.keys) == set(catalog)
    assert {key for keys in plan.keys.values() for key in keys} == set(plan.runs)
    for name, keys in plan.keys.items():
        assert [plan.runs[key].run.recipe for key in keys] == [catalog[name]] * 2
        assert all(plan.runs[key].key == key for key in keys)
        assert len(set(keys)) == (1 if catalog[name].shared else 2)


def test_a_run_is_made_from_parents_of_its_own_seed_that_come_before_it():
    _, plan = report_plan()
    seen = {}
    for planned in plan.runs.values():
        parents = {role: seen[key] for role, key in planned.parents.items()}
        assert {role: run.recipe for role, run in parents.items()} == dict(planned.run.recipe.parents)
        assert all(run.seed == (0 if run.recipe.shared else planned.run.seed) for run in parents.values())
        seen[planned.key] = planned.run


def test_two_names_for_one_recipe_have_one_run():
    catalog = Catalog({"teacher": TEACHER, "again": TEACHER})
    plan = make_plan(catalog, {"teacher": (0,), "again": (0,)}, fixed(DATA), ENVIRONMENT, effort, OURS.paths)
    assert plan.keys["teacher"] == plan.keys["again"]
    assert len(plan.runs) == 1


def test_what_remains_is_the_longest_path():
    _, plan = report_plan()

    def longest(key):
        children = [child.key for child in plan.runs.values() if key in child.parents.values()]
        return effort(plan.runs[key].run.recipe) + max(map(longest, children), default=0.0)

    for key, planned in plan.runs.items():
        assert planned.effort == effort(planned.run.recipe)
        assert planned.remaining == pytest.approx(longest(key), rel=1e-12)


def test_keys_do_not_depend_on_estimates():
    _, before = report_plan()
    _, after = report_plan(estimate=lambda recipe: 7.0)
    assert list(after.runs) == list(before.runs)
    assert after.keys == before.keys
    assert {planned.effort for planned in after.runs.values()} == {7.0}


def test_a_recipe_is_estimated_once_for_all_seeds():
    asked = []
    catalog, _ = report_plan(estimate=lambda recipe: (asked.append(recipe), 1.0)[1], seeds=(0, 1, 2))
    assert len(asked) == len(catalog)


def descendants(catalog, starts):
    """The names themselves and all that is made from them, found child by child."""
    found = set(starts)
    while True:
        recipes = [catalog[name] for name in found]
        more = {name for name, recipe in catalog.items() if any(parent in recipes for _, parent in recipe.parents)}
        if more <= found:
            return found
        found |= more


def changed(before, after):
    return {name for name in before.keys if before.keys[name] != after.keys[name]}


@pytest.mark.parametrize(
    ("field", "starts"),  # names of recipes or, where they are many, operations
    [
        ("pretrain", {"backbone"}),
        ("teacher", {"teacher-scratch"}),
        ("fine_tune", {"teacher-finetuned"}),
        (
            "student",
            {
                "student-scratch",
                "student-again",
                "student-mislabelled",
                "student-distilled-scratch",
                "student-distilled-finetuned",
            },
        ),
        ("conv_student", {"conv-student-distilled"}),
        ("question4", {"cnn-ordinary", "cnn-depthwise", "cnn-group", "cnn-ordinary-small"}),
        ("recover", {"finetune", "quantize_aware"}),
        ("slim", {"slim", "prune", "factorize", "rewrite", "quantize_weights"}),
        ("slim_fine_tune", {"pruned-0.95-1-tuned", "pruned-0.9-1-tuned"}),
    ],
)
def test_another_budget_changes_its_models_and_what_is_made_of_them(field, starts):
    budgets = replace(PROFILE.budgets, **{field: replace(getattr(PROFILE.budgets, field), epochs=99)})
    catalog, before = report_plan()
    _, after = report_plan(replace(PROFILE, budgets=budgets))
    made = {name for name, recipe in catalog.items() if operation(recipe) in starts}
    assert changed(before, after) == descendants(catalog, made or starts)


def test_another_temperature_changes_distilled_students_and_what_is_made_of_them():
    catalog, before = report_plan()
    _, after = report_plan(replace(PROFILE, distillation=replace(PROFILE.distillation, temperature=3.5)))
    distilled = {name for name, recipe in catalog.items() if operation(recipe) == "distill"}
    assert changed(before, after) == descendants(catalog, distilled)


@pytest.mark.parametrize("role", ["target", "source"])
def test_other_images_change_what_is_trained_on_them_and_what_is_made_of_it(role):
    catalog, before = report_plan()
    _, after = report_plan(data={**DATA, role: "x" * 64})
    trained = {name for name, recipe in catalog.items() if recipe.data == role}
    assert changed(before, after) == descendants(catalog, trained)


def test_other_images_of_a_seed_change_its_runs_and_shared_ones_are_those_of_seed_0():
    catalog, before = report_plan()

    def plan(seed):
        hashes = lambda role, each: DATA[role] + "x" * (each == seed)  # noqa: E731 (one a call)
        return make_plan(catalog, dict.fromkeys(catalog, (0, 1)), hashes, ENVIRONMENT, effort, OURS.paths)

    shared = {name for name, recipe in catalog.items() if recipe.shared and recipe.data}
    assert shared == {"backbone"}
    for name, keys in plan(1).keys.items():
        same = catalog[name].data is None or catalog[name].shared
        assert [key == was for key, was in zip(keys, before.keys[name], strict=True)] == [True, same]
    assert {name for name in shared if plan(0).keys[name] == before.keys[name]} == set()


def test_another_environment_changes_everything():
    catalog, before = report_plan()
    _, after = report_plan(environment={**ENVIRONMENT, "torch": "2.9.1"})
    assert changed(before, after) == set(catalog)


def test_more_seeds_leave_the_keys_of_those_before():
    _, before = report_plan(seeds=(0, 1))
    _, after = report_plan(seeds=(0, 1, 2))
    assert {name: keys[:2] for name, keys in after.keys.items()} == before.keys
