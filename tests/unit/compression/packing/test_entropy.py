import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.packing import entropy

codes_of_bits = st.integers(1, 8).flatmap(
    lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=200))
)


@given(codes_of_bits)
@settings(deadline=None, max_examples=50)
def test_codes_come_back(case):
    bits, codes = case
    stream = entropy.encode(np.array(codes, dtype=np.uint8), bits)
    assert entropy.decode(stream, bits, len(codes)).tolist() == codes


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_long_sequence_takes_its_entropy(bits):
    rng = np.random.default_rng(0)
    codes = rng.binomial(2**bits - 1, 0.3, 50_000).astype(np.uint8)
    shares = np.bincount(codes) / len(codes)
    shares = shares[shares > 0]
    ideal = -len(codes) * (shares * np.log2(shares)).sum() / 8
    size = len(entropy.encode(codes, bits)) - 2 * 2**bits
    assert ideal * 0.999 <= size <= ideal * 1.002 + 8


def test_frequencies_sum_to_the_total_and_leave_no_code_out():
    counts = np.array([10**9, *[1] * 255])
    frequencies = entropy._frequencies(counts)
    assert frequencies.sum() == entropy.TOTAL
    assert frequencies.min() == 1


@given(st.binary(max_size=60), st.integers(1, 3), st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_any_bytes_are_decoded_or_refused(stream, bits, count):
    try:
        codes = entropy.decode(np.frombuffer(stream, dtype=np.uint8), bits, count)
    except ValueError:
        return
    assert len(codes) == count
    assert codes.max(initial=0) < 2**bits


def test_a_stream_that_is_not_whole_is_refused():
    stream = entropy.encode(np.arange(100, dtype=np.uint8) % 16, 4)
    for damaged, message in (
        (stream[:20], "too short"),
        (stream[:-1], "no whole number of words"),
        (np.concatenate([stream[:1] + np.uint8(1), stream[1:]]), "frequencies of codes sum to"),
        (np.concatenate([stream[:32], stream[36:]]), "does not end where its codes do|zero word"),
    ):
        with pytest.raises(ValueError, match=message):
            entropy.decode(damaged, 4, 100)
    with pytest.raises(ValueError, match="does not end where its codes do"):
        entropy.decode(stream, 4, 50)
