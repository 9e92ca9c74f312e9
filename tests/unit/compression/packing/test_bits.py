import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.packing.bits import pack_bits, packed_size, unpack_bits

codes_of_bits = st.integers(1, 8).flatmap(
    lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, 2**bits - 1), max_size=30))
)


@given(codes_of_bits)
@settings(deadline=None, max_examples=50)
def test_bytes_are_those_of_one_long_integer(case):
    bits, codes = case
    whole = sum(code << (bits * index) for index, code in enumerate(codes))
    expected = whole.to_bytes(packed_size(bits, len(codes)), "little")
    packed = pack_bits(np.array(codes, dtype=np.uint8), bits)
    assert packed.tobytes() == expected
    assert unpack_bits(packed, bits, len(codes)).tolist() == codes


def test_three_bit_codes_by_hand():
    # 101 and 011 and 110, from the right: 10 011 101 and, in the next byte, 1.
    assert pack_bits(np.array([5, 3, 6], dtype=np.uint8), 3).tolist() == [0b10011101, 0b1]
    assert packed_size(3, 3) == 2


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: pack_bits(np.array([4], dtype=np.uint8), 2), "code 4 does not fit in 2 bits"),
        (lambda: pack_bits(np.zeros(1, dtype=np.uint8), 9), "bits are 9"),
        (lambda: unpack_bits(np.zeros(1, dtype=np.uint8), 0, 1), "bits are 0"),
        (lambda: unpack_bits(np.zeros(2, dtype=np.uint8), 3, 2), "2 codes of 3 bits take 1 bytes, not 2"),
        (lambda: unpack_bits(np.full(1, 255, dtype=np.uint8), 3, 2), "bits after the last code are not zero"),
    ],
)
def test_what_does_not_fit_is_an_error(act, message):
    with pytest.raises(ValueError, match=message):
        act()
