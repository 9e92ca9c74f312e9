"""Linear and convolutional layers as products of smaller ones.

* `factorization`: what a layer is factorized into, and what that costs
* `svd`, `tucker`, `cp`: the factors of one layer
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
