"""The report on network compression: its models, how they are made, and what is shown of them.

`project` tells the engine, `pytest_claims`, of all this: `recipes` (the report's models) and `method_recipes` (ours),
`profiles` (data, budgets, seeds), `models`, `builders` (one an operation), `plots`.
"""
