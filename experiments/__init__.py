"""How the report's models are trained, measured and judged.

What is made: `recipe` (what a recipe is), `recipes` (the report's), `method_recipes` (ours), `profiles` (data,
budgets, seeds), `models`, `datasets`.
How it is made: `training`, `augmentation`, `builders` (one an operation), `making`, `worker`, `building`, `planning`;
`cluster` makes runs on Ray's nodes instead.
How long that takes: `estimates` (from earlier runs), `schedule`, `forecast`.
Where it is kept: `store`, known by `planning`'s keys, `code_fingerprint` and `numerics`; `checkpoints`, `run_watcher`.
What is said of it: `claims` (over `operands`, kept in `claims_file`), `verdicts`, `judging`, `outcomes`, `report`;
`session` and `pytest_plugin` bring it to pytest.
"""
