"""The three codes: exact where they must be, and within their stated error elsewhere."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codestill.logits import packing


@settings(deadline=None)
@given(st.integers(1, 2**24), st.integers(0, 50), st.integers(0, 2**32))
def test_fields_come_back(vocabulary: int, count: int, seed: int):
    bits = packing.bits_for(vocabulary)
    assert 2**bits >= vocabulary
    assert bits == 1 or 2 ** (bits - 1) < vocabulary
    values = np.random.default_rng(seed).integers(0, vocabulary, count)
    if count:
        values[-1] = vocabulary - 1
    data = packing.pack(values, bits)
    assert len(data) == packing.packed_size(count, bits)
    padded = np.frombuffer(data + bytes(3), dtype=np.uint8)
    np.testing.assert_array_equal(packing.unpack(padded, np.arange(count) * bits, bits), values)


def test_fields_begin_at_the_lowest_bit():
    assert packing.pack(np.array([1, 2, 3]), 10) == (1 | 2 << 10 | 3 << 20).to_bytes(4, "little")


def test_gap_codes_ascend_in_fine_then_relative_steps():
    steps = np.diff(packing.GAP_UNITS)
    assert packing.GAP_UNITS[0] == 0
    assert packing.GAP_UNITS[-1] == 62.75 * packing.GAP_UNITS_PER_NAT
    assert steps[:32].tolist() == [1] * 32
    assert (steps >= 1).all()
    assert (steps / 2 <= 0.5 + packing.GAP_UNITS[:-1] / 64).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 60), min_size=1, max_size=255))
def test_gap_errors_do_not_add_up(gaps: list[float]):
    log_p = -np.cumsum([0.5, *gaps])
    codes = packing.encode_gaps(log_p[None])[0]
    decoded = packing.GAP_UNITS[codes].cumsum() / packing.GAP_UNITS_PER_NAT
    error = np.abs(decoded - np.cumsum(gaps))
    assert (error <= 1 / 256 + np.maximum.accumulate(gaps) / 64 + 1e-9).all()


@settings(deadline=None)
@given(st.lists(st.floats(-31, 31), max_size=20))
def test_tail_masses_keep_their_odds(log_odds: list[float]):
    log_tail = -np.logaddexp(0, -np.array(log_odds))
    log_rest, log_kept = packing.decode_tails(packing.encode_tails(log_tail))
    np.testing.assert_allclose(np.exp(log_rest) + np.exp(log_kept), 1, atol=1e-12)
    # Beyond 17 nats a tail so near to one is one in float64 too: its complement is lost before it is coded.
    near = np.abs(log_odds) < 17
    np.testing.assert_allclose((log_rest - log_kept)[near], np.array(log_odds)[near], atol=1 / 1024)


def test_an_empty_tail_is_exactly_empty():
    codes = packing.encode_tails(np.array([-np.inf, -40.0, -1e-12]))
    log_tail, log_kept = packing.decode_tails(codes)
    assert log_tail[:2].tolist() == [-np.inf, -np.inf]
    assert log_kept[:2].tolist() == [0, 0]
    assert log_tail[2] > -1e-9
    assert np.isfinite(log_kept[2])
