"""float16 numbers held in float32 arrays: how the simulator keeps Core ML's halves.

numpy computes float16 by converting every element in software. Held wide, they run at BLAS and SIMD
speed, and rounding each result to float16's grid gives the same numbers: float32 carries more than
twice float16's digits, so rounding twice is rounding once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SMALL = 1500  # elements below which numpy's own conversion is quicker than the eight steps here
_EXPONENT = np.uint32(0x7F800000)
_LOWEST = np.uint32((127 - 14) << 23)  # below 2^-14 float16 is subnormal: its spacing stays that of 2^-14
_HIGHEST = np.uint32((127 + 17) << 23)  # beyond it everything overflows; keeps the sum below finite
_RAISE = np.uint32((13 << 23) | 0x400000)  # float32 has 13 more digits; 1.5 times keeps both signs in one binade
_UP, _DOWN = np.float32(2.0**112), np.float32(2.0**-112)  # 2^16 * 2^112 is infinite in float32, 65504 * 2^112 is not


def round_to_half(x: Array) -> Array:
    """Round x, float32, to the nearest float16 (ties to even, infinity from 65520) in place; returns it.

    Adding 1.5 * 2^(e + 13) to a number of exponent e leaves exactly float16's digits.
    """
    if x.size < _SMALL:
        x[...] = x.astype(np.float16)
        return x
    raised = np.bitwise_and(x.view(np.uint32), _EXPONENT)
    np.maximum(raised, _LOWEST, out=raised)
    np.minimum(raised, _HIGHEST, out=raised)
    np.add(raised, _RAISE, out=raised)
    shift = raised.view(np.float32)
    x += shift
    x -= shift
    x *= _UP
    x *= _DOWN
    return x


def as_half(x: Array) -> Array:
    """A copy of x, any numbers, on float16's grid."""
    return round_to_half(x.astype(np.float32))
