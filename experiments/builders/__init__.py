"""How each operation makes a run: one module an operation, each with `build(context) -> Built`.

A builder is imported by name, when a run needs it, so that a change to one rebuilds no run of another.
"""
