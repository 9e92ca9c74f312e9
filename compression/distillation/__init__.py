"""What a student can learn from a teacher besides the labels, each a plain loss of tensors.

* `logits`: softened outputs: Hinton's divergence alone or blended with the labels, decoupled, as cross entropy
* `teachers`: several teachers at once
* `features`: hints, through a regressor where shapes differ, and attention maps
* `relations`: distances and angles between the samples of a batch

Models may run in half precision, or under autocast: each loss is computed, and returned, in float32 at least.

`compression.taps` brings the features out of the models. A training step of all of these:

    with torch.no_grad(), tapped(teacher, ["layer3"]) as taught:
        answers = teacher(images)
    with tapped(student, ["blocks.5"]) as learnt:
        logits = student(images)
    theirs, ours = taught.output("layer3"), learnt.output("blocks.5")
    loss = distillation_loss(logits, answers, labels, temperature=4, alpha=0.9)
    loss = loss + 1000 * attention_transfer(ours, theirs) + 25 * distance_relation(logits, answers)
"""
