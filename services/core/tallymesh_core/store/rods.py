"""Rods: an exact decimal as limbs, each of which can be added to by itself.

Limb i says how many times 10^(9 i) is in the number; fractions have limbs of negative index. A limb
has a sign of its own and may be larger than its base: the carries are resolved on reading.
"""

from collections.abc import Mapping

from tallymesh_core.domain.decimals import Exact

_LIMB_DIGITS = 9
_BASE = 10**_LIMB_DIGITS


def split(value: Exact) -> dict[int, int]:
    """Cuts a decimal into limbs, each within ±(10^9 - 1); zeros are left out."""
    index = -(-value.scale // _LIMB_DIGITS)
    rest = abs(value.unscaled) * 10 ** (index * _LIMB_DIGITS - value.scale)
    sign = -1 if value.unscaled < 0 else 1
    index = -index
    limbs = {}
    while rest:
        rest, limb = divmod(rest, _BASE)
        if limb:
            limbs[index] = sign * limb
        index += 1
    return limbs


def join(limbs: Mapping[int, int]) -> Exact:
    """Returns the decimal that limbs stand for, whatever their signs and sizes."""
    indices = sorted({*limbs, 0}, reverse=True)
    unscaled, above = 0, indices[0]
    for index in indices:
        unscaled = unscaled * _BASE ** (above - index) + limbs.get(index, 0)
        above = index
    return Exact(unscaled, -above * _LIMB_DIGITS)
