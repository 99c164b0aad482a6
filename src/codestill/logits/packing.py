"""The three codes of the format: token ids as bit fields, gaps of log-probabilities, tail masses.

All are decoded whole arrays at a time, in integers as far as possible, so every machine decodes the same.
"""

import numpy as np
from numpy.typing import NDArray

GAP_UNITS_PER_NAT = 128
"""Resolution of a gap between consecutive log-probabilities."""

_CODES = np.arange(256)
GAP_UNITS: NDArray[np.int32] = (((32 + _CODES % 32) << (_CODES // 32)) - 32).astype(np.int32)
"""Units per gap code: 5 bits of mantissa, 3 of exponent, up to 62.75 nats. A gap is off by at most 1/256 nat
plus 1/64 of it: finest where gaps are small, as an error weighs as much as the probability it is made on."""

_GAP_MIDDLES = (GAP_UNITS[1:] + GAP_UNITS[:-1]) / 2

TAIL_UNITS_PER_NAT = 1024
TAIL_ZERO = 32768
"""Code of a tail that has half the mass."""
NO_EVENT = 65535
"""Code of a row without an event: its tail has all the mass, and its entry none. (A row that lists the most
likely of 2^24 tokens has at most the code 49803.)"""


def bits_for(vocabulary: int) -> int:
    """Bits of a token id; at most 24, as ids are read from 4 bytes at any bit of the first."""
    return max(1, (vocabulary - 1).bit_length())


def pack(values: NDArray[np.integer], bits: int) -> bytes:
    """Bit fields from the lowest bit of the first byte on, padded with zeros to a whole byte."""
    shifts = np.arange(bits, dtype=np.uint32)
    planes = (values.astype(np.uint32).reshape(-1, 1) >> shifts) & 1
    return np.packbits(planes.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def unpack(data: NDArray[np.uint8], starts: NDArray[np.int64], bits: int) -> NDArray[np.uint32]:
    """The fields that begin at the bits ``starts``; three bytes must follow the last field's first byte."""
    words = np.ndarray(len(data) - 3, dtype="<u4", buffer=data.data, strides=(1,))
    fields = words[starts >> 3]
    fields >>= (starts & 7).astype(np.uint32)
    fields &= np.uint32((1 << bits) - 1)
    return fields


def packed_size(count: int, bits: int) -> int:
    """Bytes of ``count`` fields."""
    return (count * bits + 7) // 8


def encode_gaps(log_probabilities_NK: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Codes [N, K-1] of the steps down a row, each from where the decoder stands, so no error adds up.

    Columns that a row does not keep give codes that mean nothing.
    """
    # A difference beyond the longest row of steps says no more; it keeps infinities out of the sums.
    depth_NK = np.minimum(
        (log_probabilities_NK[:, :1].astype(np.float64) - log_probabilities_NK) * GAP_UNITS_PER_NAT, 2**30
    )
    codes = np.zeros((len(depth_NK), max(depth_NK.shape[1] - 1, 0)), dtype=np.uint8)
    reached_N = np.zeros(len(depth_NK), dtype=np.int64)
    for column in range(codes.shape[1]):
        codes[:, column] = np.searchsorted(_GAP_MIDDLES, depth_NK[:, column + 1] - reached_N)
        reached_N += GAP_UNITS[codes[:, column]]
    return codes


def encode_tails(log_tails: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Log-odds of the tail in units of 1/1024 nat about 32768; 0 is a tail below e^-32, taken as empty, and
    the highest code is a tail that is all there is."""
    with np.errstate(divide="ignore"):
        log_odds = log_tails - np.log(-np.expm1(np.minimum(log_tails, -1e-12, dtype=np.float64)))
    codes = np.rint(np.maximum(log_odds, -1e3) * TAIL_UNITS_PER_NAT) + TAIL_ZERO
    return np.where(log_tails == 0, NO_EVENT, np.clip(codes, 0, NO_EVENT - 1)).astype(np.uint16)


def decode_tails(codes: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(log of the tail's mass, log of the kept mass)."""
    log_odds = (codes.astype(np.float64) - TAIL_ZERO) / TAIL_UNITS_PER_NAT
    log_odds[codes == 0] = -np.inf
    log_odds[codes == NO_EVENT] = np.inf
    return -np.logaddexp(0.0, -log_odds), -np.logaddexp(0.0, log_odds)
