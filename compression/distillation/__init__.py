"""What a student can learn from a teacher besides the labels, each a plain loss of tensors.

* `logits`: softened outputs: Hinton's divergence alone or blended with the labels, decoupled, as cross entropy
* `teachers`: several teachers at once
* `features`: hints, through a regressor where shapes differ, and attention maps
* `relations`: distances and angles between the samples of a batch
* `precision`: losses in float32 at least, where models run in half precision or under autocast, as all of these are

`compression.tapped` brings the features out of the models. A training step of all of these:

    with torch.no_grad(), tapped(teacher, ["layer3"]) as taught:
        answers = teacher(images)
    with tapped(student, ["blocks.5"]) as learnt:
        logits = student(images)
    theirs, ours = taught.output("layer3"), learnt.output("blocks.5")
    loss = distillation_loss(logits, answers, labels, temperature=4, alpha=0.9)
    loss = loss + 1000 * attention_transfer(ours, theirs) + 25 * distance_relation(logits, answers)
"""

from typing import TYPE_CHECKING

from compression.lazy import lazy_names

if TYPE_CHECKING:
    from compression.distillation.features import attention_transfer, hint_loss, hint_regressor
    from compression.distillation.logits import (
        decoupled_divergence,
        distillation_loss,
        soft_target_cross_entropy,
        softened_divergence,
    )
    from compression.distillation.precision import full_precision
    from compression.distillation.relations import angle_relation, distance_relation
    from compression.distillation.teachers import mixture_logits, several_teachers_divergence
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "features": "attention_transfer hint_loss hint_regressor",
            "logits": "decoupled_divergence distillation_loss soft_target_cross_entropy softened_divergence",
            "precision": "full_precision",
            "relations": "angle_relation distance_relation",
            "teachers": "mixture_logits several_teachers_divergence",
        },
    )

__all__ = [
    "angle_relation",
    "attention_transfer",
    "decoupled_divergence",
    "distance_relation",
    "distillation_loss",
    "full_precision",
    "hint_loss",
    "hint_regressor",
    "mixture_logits",
    "several_teachers_divergence",
    "soft_target_cross_entropy",
    "softened_divergence",
]
