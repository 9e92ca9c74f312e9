"""What options are where none is given."""

from typing import Final

BITS: Final = 8
"""Bits of a code."""

SHARE: Final = 99.9
"""Percent of the values that a range chosen by percentile holds."""
