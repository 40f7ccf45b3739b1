"""CBOR in its core deterministic encoding (RFC 8949, 4.2.1): one value has one form, and no other is read.

The keys of maps are integers. The encoder sorts them length-first (RFC 7049), the rule is bytewise (RFC 8949): the few
maps of this format have keys for which both are the same, and a map of which that is not true is refused.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, NoReturn

import cbor2

from gateway.errors import MalformedError

_MAX_DEPTH = 12
_TAGS = frozenset({16, 18, 96})
_TAGS_WITH_MEANING = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)

_INTEGER = frozenset({int})
_SCALARS = _INTEGER | {bytes, str, type(None)}
_KINDS = _SCALARS | {list, dict, cbor2.CBORTag}

_HEADS = (24, 2**8, 2**16, 2**32)
"""From each of these on, an integer's encoding is longer."""

MAX_INT = 2**53 - 1


def _refuse(_content: object, _immutable: object) -> NoReturn:
    raise ValueError("this tag has no place here")


def _tagged(tag: int) -> Callable[[object, object], cbor2.CBORTag]:
    """Keeps a tag, as the decoder does by itself, but with its content as mutable as the rest: that encodes faster."""
    return lambda content, _immutable: cbor2.CBORTag(tag, content)


_DECODERS: dict[int, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(_TAGS_WITH_MEANING, _refuse),
    **{tag: _tagged(tag) for tag in _TAGS},
}


def encode(value: Any) -> bytes:  # noqa: ANN401 - any CBOR value
    """The one encoding of `value`: int, bytes, str, None, list or tuple, dict, `cbor2.CBORTag`.

    Raises `MalformedError` for text that UTF-8 cannot say.
    """
    try:
        return cbor2.dumps(value, canonical=True)
    except UnicodeEncodeError as error:
        raise MalformedError("text with a lone surrogate") from error


def decode(data: bytes) -> Any:  # noqa: ANN401 - any CBOR value
    """The value whose deterministic encoding `data` is: int, bytes, str, None, list, dict, `cbor2.CBORTag`.

    Raises `MalformedError` for anything else: other forms of the same value, trailing bytes, deep nesting, floats,
    simple values but null, tags but those of COSE.
    """
    try:
        value = cbor2.loads(
            data,
            semantic_decoders=_DECODERS,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            max_depth=_MAX_DEPTH,
        )
        # Maps are encoded in the order in which they came; which order that must be is checked below.
        same = cbor2.dumps(value) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedError(f"not CBOR of this format: {error}") from error
    if not same:
        raise MalformedError("not the deterministic encoding")
    _check((value,), _MAX_DEPTH)
    return value


def _check(items: Collection[Any], levels: int) -> None:
    """Raise `MalformedError` for floats, booleans and other simple values, as True would pass for 1, and deep nesting.

    `items` are not all scalars. The decoder's own bound lets an empty container be one level deeper than any other.
    """
    if not _KINDS.issuperset(map(type, items)):
        raise MalformedError("neither floats nor simple values but null have a place here")
    if not levels:
        raise MalformedError(f"nested deeper than {_MAX_DEPTH}")
    for item in items:
        kind = type(item)
        if kind in _SCALARS or not item:
            continue
        if kind is list:
            inner = item
        elif kind is dict:
            _check_keys(item)
            inner = item.values()
        else:
            if item.tag not in _TAGS:
                raise MalformedError("the only tags are those of COSE")
            inner = (item.value,)
        if not _SCALARS.issuperset(map(type, inner)):
            _check(inner, levels - 1)


def _check_keys(keys: Collection[Any]) -> None:
    """Raise `MalformedError` unless all of them are integers in order."""
    if not _INTEGER.issuperset(map(type, keys)) or not _in_order(tuple(keys)):
        raise MalformedError("a map's keys are integers in bytewise order")


@lru_cache(maxsize=64)
def _in_order(keys: tuple[int, ...]) -> bool:
    """Whether they are in bytewise order, 0, 1, ..., -1, -2, ..., and length-first."""
    sizes = [bisect_right(_HEADS, key if key >= 0 else -1 - key) for key in keys]
    return list(keys) == sorted(keys, key=lambda key: (key < 0, abs(key))) and sizes == sorted(sizes)


def is_uint(value: object) -> bool:
    """Whether `value` is an integer within 0..2^53-1, as every structural integer is."""
    return type(value) is int and 0 <= value <= MAX_INT
