"""How the report's models are trained, measured and judged.

What is made: `recipe` (what a recipe is), `recipes` (the report's), `profiles` (data, budgets, seeds), `models`,
`datasets`.
How it is made: `training`, `augmentation`, `builders` (one an operation), `making`, `worker`, `building`, `planning`.
How long that takes: `estimates` (from earlier runs), `schedule`, `forecast`.
Where it is kept: `store` (`verified_runs` reads it), known by `planning`'s keys, `code_fingerprint` and `numerics`.
`stored_run` is one folder of it, `partial` what is being written, `run_lock` who makes it.
How that is cared for: `store_cli` and `store_commands`, over `store_listing`, `store_verify`, `store_gc`, `run_export`
and `run_import`, which share the form of a `run_archive`.
What is said of it: `claims` (over `operands`, kept in `claims_file`), `verdicts`, `judging`, `outcomes`, `report`;
`session` and `pytest_plugin` bring it to pytest.
"""
