"""Linear and convolutional layers as products of smaller ones.

* `factorization`: what a layer is factorized into, and what that costs
* `svd`, `tucker`, `cp`: the factors of one layer, made by `factors`
* `factorizing`: any layers of a model at once, and why others stay
* `candidates`: what each way to factorize a layer costs and loses
* `rank_allocation`: the ways chosen for an energy, or for a budget of parameters or multiply-accumulates of the model
* `uniform`: one share of the full ranks in all layers, from shapes alone

A trained model at half of its multiply-accumulates:

    budget = multiply_accumulates(model, (3, 224, 224)) // 2
    plan = plan_for_multiply_accumulates(model, budget, (3, 224, 224))
    small = factorize(model, plan)
    print(plan, left_dense(model))  # ways and ranks by layer; the layers that stay, each with the reason
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.low_rank.cp import factorize_cp
    from compression.low_rank.factorization import Factorization
    from compression.low_rank.factorizing import Plan, factorizable_layers, factorize, factorize_layer, left_dense
    from compression.low_rank.rank_allocation import plan_for_energy, plan_for_multiply_accumulates, plan_for_parameters
    from compression.low_rank.svd import factorize_linear, factorize_pointwise, factorize_spatial
    from compression.low_rank.tucker import factorize_tucker
    from compression.low_rank.uniform import factorize_to_budget
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "cp": "factorize_cp",
            "factorization": "Factorization",
            "factorizing": "Plan factorizable_layers factorize factorize_layer left_dense",
            "rank_allocation": "plan_for_energy plan_for_multiply_accumulates plan_for_parameters",
            "svd": "factorize_linear factorize_pointwise factorize_spatial",
            "tucker": "factorize_tucker",
            "uniform": "factorize_to_budget",
        },
    )

__all__ = [
    "Factorization",
    "Plan",
    "factorizable_layers",
    "factorize",
    "factorize_cp",
    "factorize_layer",
    "factorize_linear",
    "factorize_pointwise",
    "factorize_spatial",
    "factorize_to_budget",
    "factorize_tucker",
    "left_dense",
    "plan_for_energy",
    "plan_for_multiply_accumulates",
    "plan_for_parameters",
]
