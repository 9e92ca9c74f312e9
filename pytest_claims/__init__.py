"""A pytest plugin in which every claim of a report is a test that makes models, measures them and judges.

It knows no model and no operation: a project brings its own, see `recipes.project`.

* `claims`: what is claimed, one class a kind, and the file that holds it; `verdicts`: how numbers become a verdict
* `recipes`: what a project tells: recipes, profiles, measures; `plan`: which runs they give, and in which order
* `datasets`, `training`: what models learn from, and how; `keys`: all that decides a run's bytes
* `store`: where finished runs are kept; `workers`, `cluster`: who makes missing ones, here or on Ray
* `suite`: all of it for one set of options; `report`: what is shown of it
* `plugin`: brings it to pytest; `commands`: `python -m pytest_claims`
"""
