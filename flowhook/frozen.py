"""Dictionaries and lists that can't be changed: what the handlers of one event share.

For reading, for `json.dumps` and for `==` they are a `dict` and a `list`; what would change them raises
TypeError. A copy, shallow or deep, is a plain one that may be changed.
"""

import copy
from typing import Any, NoReturn

ADVICE = (
    "all handlers of an event share it, so it can't be changed: change a copy, dict(…) or copy.deepcopy(…)"
)


def _refuse(*_arguments: Any, **_named: Any) -> NoReturn:
    raise TypeError(ADVICE)


class FrozenDict(dict[str, Any]):
    """A dictionary that can't be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {name: copy.deepcopy(value, memo) for name, value in self.items()}

    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that can't be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(value, memo) for value in self]

    def __reduce__(self) -> tuple[type, tuple[list[Any]]]:
        return list, (list(self),)


# One of each is enough, because nothing can be added to it.
NO_ITEMS, NO_NAMES = FrozenList(), FrozenDict()


def freeze(value: Any) -> Any:
    """What was read from JSON, frozen at every level.

    `value` itself is changed: its parts are replaced one by one, so that no two copies of a large body exist.
    """
    kind = type(value)
    if kind is dict:
        for name, part in value.items():
            if type(part) is dict or type(part) is list:
                value[name] = freeze(part)
        return FrozenDict(value) if value else NO_NAMES
    if kind is list:
        for index, part in enumerate(value):
            if type(part) is dict or type(part) is list:
                value[index] = freeze(part)
        return FrozenList(value) if value else NO_ITEMS
    return value
