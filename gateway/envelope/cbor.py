"""CBOR in its core deterministic encoding (RFC 8949, 4.2.1): one value has one form, and no other is read.

The project's maps have at most two keys, all small integers of which at most one is non-negative, or one key alone;
for these the bytewise order of RFC 8949 and the length-first order of the encoder are the same.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

import cbor2

from gateway.errors import MalformedError

_MAX_DEPTH = 12
_TAGS_WITH_MEANING = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)

_CONTAINERS = frozenset({tuple, cbor2.frozendict, cbor2.CBORTag})
_KINDS = _CONTAINERS | {int, bytes, str, type(None)}

MAX_INT = 2**53 - 1


def _refuse(_decoder: object) -> NoReturn:
    raise ValueError("this tag has no place here")


_REFUSED = dict.fromkeys(_TAGS_WITH_MEANING, _refuse)


def encode(value: Any) -> bytes:  # noqa: ANN401 - any CBOR value
    """The one encoding of `value`: int, bytes, str, None, list or tuple, dict, `cbor2.CBORTag`."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> Any:  # noqa: ANN401 - any CBOR value
    """The value whose deterministic encoding `data` is: int, bytes, str, None, tuple, mapping, `cbor2.CBORTag`.

    Raises `MalformedError` for anything else: other forms of the same value, trailing bytes, deep nesting, floats,
    simple values but null, and tags that a decoder would act on.
    """
    try:
        value = cbor2.loads(
            data,
            semantic_decoders=_REFUSED,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            max_depth=_MAX_DEPTH,
            immutable=True,
        )
        same = cbor2.dumps(value, canonical=True) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedError(f"not CBOR of this format: {error}") from error
    if not same:
        raise MalformedError("not the deterministic encoding")
    _check_kinds([value])
    return value


def _check_kinds(items: Iterable[object]) -> None:
    """Raise `MalformedError` for floats, booleans and other simple values; True would pass for 1."""
    items = tuple(items)
    kinds = set(map(type, items))
    if not kinds <= _KINDS:
        raise MalformedError("neither floats nor simple values but null have a place here")
    if kinds & _CONTAINERS:
        for item in items:
            if type(item) is tuple:
                _check_kinds(item)
            elif type(item) is cbor2.frozendict:
                _check_kinds((*item.keys(), *item.values()))
            elif type(item) is cbor2.CBORTag:
                _check_kinds([item.value])


def is_uint(value: object) -> bool:
    """Whether `value` is an integer within 0..2^53-1, as every structural integer is."""
    return type(value) is int and 0 <= value <= MAX_INT
