"""CBOR in its core deterministic encoding (RFC 8949, 4.2.1): one value has one form, and no other is read.

The keys of maps are integers. The encoder sorts them length-first (RFC 7049), the rule is bytewise (RFC 8949): the few
maps of this format have keys for which both are the same, and a map of which that is not true is refused.
"""

from typing import Any, NoReturn

import cbor2

from gateway.errors import MalformedError

_MAX_DEPTH = 12
_TAGS = frozenset({16, 18, 96})
_TAGS_WITH_MEANING = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)

_CONTAINERS = frozenset({tuple, cbor2.frozendict, cbor2.CBORTag})
_KINDS = _CONTAINERS | {int, bytes, str, type(None)}

MAX_INT = 2**53 - 1


def _refuse(_decoder: object) -> NoReturn:
    raise ValueError("this tag has no place here")


_REFUSED = dict.fromkeys(_TAGS_WITH_MEANING, _refuse)


def encode(value: Any) -> bytes:  # noqa: ANN401 - any CBOR value
    """The one encoding of `value`: int, bytes, str, None, list or tuple, dict, `cbor2.CBORTag`.

    Raises `MalformedError` for text that UTF-8 cannot say.
    """
    try:
        return cbor2.dumps(value, canonical=True)
    except UnicodeEncodeError as error:
        raise MalformedError("text with a lone surrogate") from error


def decode(data: bytes) -> Any:  # noqa: ANN401 - any CBOR value
    """The value whose deterministic encoding `data` is: int, bytes, str, None, tuple, mapping, `cbor2.CBORTag`.

    Raises `MalformedError` for anything else: other forms of the same value, trailing bytes, deep nesting, floats,
    simple values but null, tags but those of COSE.
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
    _check_kinds((value,))
    return value


def _check_kinds(items: tuple[object, ...], levels: int = _MAX_DEPTH) -> None:
    """Raise `MalformedError` for floats, booleans and other simple values, as True would pass for 1, and deep nesting.

    The decoder's own bound lets an empty container be one level deeper than any other.
    """
    kinds = set(map(type, items))
    if not kinds <= _KINDS:
        raise MalformedError("neither floats nor simple values but null have a place here")
    if kinds.isdisjoint(_CONTAINERS):
        return
    if not levels:
        raise MalformedError(f"nested deeper than {_MAX_DEPTH}")
    for item in items:
        if type(item) is tuple:
            _check_kinds(item, levels - 1)
        elif type(item) is cbor2.CBORTag:
            if item.tag not in _TAGS:
                raise MalformedError("the only tags are those of COSE")
            _check_kinds((item.value,), levels - 1)
        elif type(item) is cbor2.frozendict:
            _check_keys(tuple(item))
            _check_kinds(tuple(item.values()), levels - 1)


def _check_keys(keys: tuple[object, ...]) -> None:
    """Raise `MalformedError` unless the keys are integers in bytewise order: 0, 1, 2, ..., -1, -2, ..."""
    numbers = [key for key in keys if type(key) is int]
    if len(numbers) < len(keys) or numbers != sorted(numbers, key=lambda key: (key < 0, abs(key))):
        raise MalformedError("a map's keys are integers in bytewise order")


def is_uint(value: object) -> bool:
    """Whether `value` is an integer within 0..2^53-1, as every structural integer is."""
    return type(value) is int and 0 <= value <= MAX_INT
