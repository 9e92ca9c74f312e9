"""Codes in about as many bits as their entropy, by asymmetric numeral systems (Duda, 2009).

    stream = encode(codes, bits=4)
    codes = decode(stream, bits=4, count=len(codes))

The coder is the `constriction` package's. It was chosen by size, on torchvision's ResNet18 with random weights, per
channel, in bytes (8, 4, 3 and 2 bits; packed bits alone take 11,678,912, 5,839,456, 4,379,592 and 2,919,728):

    entropy             10,487,224   4,412,772   2,732,613     672,229
    constriction        10,498,060   4,413,536   2,733,044     672,488
    brotli, quality 9   10,546,730   5,123,588   3,349,915     999,634
    zstandard, level 19 10,592,862   4,480,624   2,894,795     773,977
    zlib, Huffman only  10,563,194   4,456,759   2,894,364     757,687

A stream is the frequency of each code, 2^bits little-endian uint16 that sum to 65535, and then the coder's uint32
words.
"""

from typing import Any, Final

import numpy as np
from constriction import stream as constriction
from numpy.typing import NDArray

from compression.packing.bits import Bytes

TOTAL: Final = 65535


def encode(codes: Bytes, bits: int) -> Bytes:
    """Code a sequence by how often each code occurs in it.

    Args:
        codes: (count,), at least one, each below 2^bits.
        bits: 1 to 8.
    """
    frequencies = _frequencies(np.bincount(codes, minlength=2**bits))
    coder = constriction.stack.AnsCoder()
    coder.encode_reverse(codes.astype(np.int32), _model(frequencies))
    words: NDArray[np.uint32] = coder.get_compressed()
    return np.concatenate([frequencies.astype("<u2").view(np.uint8), words.astype("<u4").view(np.uint8)])


def decode(stream: Bytes, bits: int, count: int) -> Bytes:
    """Return the codes that `encode` coded; memory is a few bytes for each of `count`.

    Raises:
        ValueError: If the stream is not what `encode` gives for so many codes.
    """
    table = 2 * 2**bits
    if len(stream) < table or (len(stream) - table) % 4:
        raise ValueError(f"a coded stream of {len(stream)} bytes is too short, or no whole number of words")
    frequencies = stream[:table].view("<u2").astype(np.int64)
    if int(frequencies.sum()) != TOTAL:
        raise ValueError(f"frequencies of codes sum to {int(frequencies.sum())}, not {TOTAL}")
    words = stream[table:].copy().view("<u4").astype(np.uint32)
    coder = constriction.stack.AnsCoder(words)
    codes: NDArray[np.int32] = coder.decode(_model(frequencies), count)
    if not coder.is_empty():
        raise ValueError("the coded stream does not end where its codes do")
    return codes.astype(np.uint8)


def _frequencies(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return integers near the counts' shares of `TOTAL`, at least 1 where there is a count, that sum to it."""
    scaled = np.where(counts > 0, np.maximum(counts * TOTAL // max(int(counts.sum()), 1), 1), 0)
    # The most frequent code bears the rounding; it has at least TOTAL / 256, and loses at most 255.
    scaled[int(np.argmax(counts))] += TOTAL - int(scaled.sum())
    return scaled


def _model(frequencies: NDArray[np.int64]) -> Any:
    shares = frequencies.astype(np.float32) / np.float32(TOTAL)
    return constriction.model.Categorical(shares, perfect=False)
