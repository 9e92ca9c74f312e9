"""Codes of 1 to 8 bits, one after another without gaps, the least significant bit first.

packed = pack_bits(codes, 3)                    # 8 codes in 3 bytes
codes = unpack_bits(packed, 3, count=8)
"""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def packed_size(bits: int, count: int) -> int:
    """Return the number of bytes that codes take."""
    return -(-bits * count // 8)


def pack_bits(codes: Bytes, bits: int) -> Bytes:
    """Pack codes one after another, without gaps.

    Args:
        codes: (count,), each below 2^bits.
        bits: 1 to 8.

    Returns:
        `packed_size` bytes; bits of the last one that no code uses are zero.

    Raises:
        ValueError: If `bits` is out of range, or a code needs more.
    """
    _check_bits(bits)
    if codes.size and int(codes.max()) >> bits:
        raise ValueError(f"code {int(codes.max())} does not fit in {bits} bits")
    rows = np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(rows.ravel(), bitorder="little")


def unpack_bits(packed: Bytes, bits: int, count: int) -> Bytes:
    """Return the codes that `pack_bits` packed.

    Raises:
        ValueError: If `bits` is out of range, the bytes are too few or too many, or unused bits are not zero.
    """
    _check_bits(bits)
    if len(packed) != packed_size(bits, count):
        raise ValueError(f"{count} codes of {bits} bits take {packed_size(bits, count)} bytes, not {len(packed)}")
    flat = np.unpackbits(packed, bitorder="little")
    if flat[bits * count :].any():
        raise ValueError("bits after the last code are not zero")
    return np.packbits(flat[: bits * count].reshape(count, bits), axis=1, bitorder="little").reshape(count)


def _check_bits(bits: int) -> None:
    if bits not in range(1, 9):
        raise ValueError(f"bits are {bits!r}; 1 to 8 are possible")
