"""The student's channels, told without torch."""

WIDTHS = (16, 32, 64, 128, 256, 256, 256, 256)
"""Output channels of blocks 0 to 7."""

PRUNED_BLOCKS = range(3, 7)
"""Blocks whose output channels the width multiplier and slimming touch."""


def pruned_widths(rate: float, step: int) -> tuple[int, ...]:
    """Output channels after `step` slimming steps that each keep `rate` of the channels.

    The report's counts follow from `int(channels * rate ** step)`, not from rounding down at every step.
    """
    return tuple(int(w * rate**step) if block in PRUNED_BLOCKS else w for block, w in enumerate(WIDTHS))
