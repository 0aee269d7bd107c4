"""Finds the handlers in a package, and refuses at the start those that could never work.

A mistake that shows only with the first event costs that event, so what can be found earlier stops the start.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
import traceback
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

from flowhook.categories import CATEGORIES, OPERATIONS, OTHER
from flowhook.errors import StartError
from flowhook.events import Event, model_of
from flowhook.handler import MARK, Declaration, Function, Handler
from flowhook.variables import Variable


def discover(package: ModuleType) -> tuple[Handler, ...]:
    """Every handler in the modules of `package`, by module name, within a module in the order of definition.

    Raises StartError, with file and line, where a module can't be imported or a handler could never work.
    """
    _refuse_deeper(package)
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = {name: _import(package, name) for name in names}
    found = _with_variables(
        [handler for name in names for handler in _in_module(modules[name], name)], modules
    )
    for handler in found:
        mistake = _mistake(handler)
        if mistake:
            raise StartError(f"{_place(package, handler.function)}: {handler.name} {mistake}")
    return found


def _with_variables(handlers: Sequence[Handler], modules: Mapping[str, ModuleType]) -> tuple[Handler, ...]:
    """The handlers with the variables of their modules, and with those of modules without any handler."""
    declared = {name: _variables(module) for name, module in modules.items()}
    own = {handler.name: handler.name.partition(".")[0] for handler in handlers}
    shared = [v for name, found in declared.items() if name not in own.values() for v in found]
    return tuple(
        replace(handler, variables=tuple(dict.fromkeys((*declared[own[handler.name]], *shared))))
        for handler in handlers
    )


def _variables(module: ModuleType) -> list[Variable[Any]]:
    """The variables that a module and those below it declare or import."""
    below = [found for name, found in sys.modules.items() if name.startswith(f"{module.__name__}.")]
    return [
        value for part in (module, *below) for value in vars(part).values() if isinstance(value, Variable)
    ]


def _in_module(module: ModuleType, name: str) -> Iterator[Handler]:
    found: list[Function] = []
    for attribute, value in vars(module).items():
        # A handler that is imported from another module or bound to a second name counts only once.
        own = callable(value) and hasattr(value, MARK) and value.__module__ == module.__name__
        if own and value not in found:
            found.append(value)
            declared: Declaration = getattr(value, MARK)
            yield Handler(
                f"{name}.{attribute}",
                declared.patterns,
                value,
                declared.changed,
                declared.once,
                declared.attempts,
                declared.timeout,
            )


def _import(package: ModuleType, name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{package.__name__}.{name}")
    except (Exception, SystemExit) as error:
        raise StartError(
            f"{_file(package, name)} can't be imported: {type(error).__name__}: {error}"
            f"{_where(package, error)}"
        ) from error


def _file(package: ModuleType, name: str) -> str:
    folder = any((Path(path) / name).is_dir() for path in package.__path__)
    return f"{package.__name__}/{name}/__init__.py" if folder else f"{package.__name__}/{name}.py"


def _where(package: ModuleType, error: BaseException) -> str:
    """The last line of the handlers' own code in the traceback: that is where to mend it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_relative(package, error.filename)}, line {error.lineno})"
    lines = [
        f" ({_relative(package, frame.filename)}, line {frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if any(Path(frame.filename).is_relative_to(folder) for folder in package.__path__)
    ]
    return lines[-1] if lines else ""


def _place(package: ModuleType, function: Function) -> str:
    """File and line of a function; the module of what has none, such as a callable object."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return function.__module__
    return f"{_relative(package, code.co_filename)}, line {code.co_firstlineno}"


def _relative(package: ModuleType, filename: str) -> str:
    """`handlers/crm.py` for a file of the package; any other as it is."""
    for folder in package.__path__:
        if Path(filename).is_relative_to(folder):
            return f"{package.__name__}/{Path(filename).relative_to(folder).as_posix()}"
    return filename


def _mistake(handler: Handler) -> str:
    """Why the handler could never handle what its patterns select; empty where no reason is found."""
    return _signature_mistake(handler.function) or _annotation_mistake(handler)


def _signature_mistake(function: Function) -> str:
    try:
        signature = inspect.signature(function)
    except ValueError:
        # A function written in C may have no signature.
        return ""
    try:
        signature.bind(object())
    except TypeError as error:
        return f"can't be called with an event alone ({error}): a handler takes one argument"
    return ""


def _annotation_mistake(handler: Handler) -> str:
    wanted = _event_classes(handler.function)
    if not wanted:
        return ""
    for category in (*CATEGORIES, OTHER):
        for operation in OPERATIONS:
            given = model_of(category)
            if handler.wants(f"{category}.{operation}") and not issubclass(given, wanted):
                names = " or ".join(one.__name__ for one in wanted)
                return f"takes {names}, but {category}.{operation} comes as {given.__name__}"
    return ""


def _event_classes(function: Function) -> tuple[type[Event], ...]:
    """The event classes that the first parameter is annotated with; none where that can't be known.

    A name that is imported for type checkers only doesn't resolve here, which is no mistake of the handler's.
    """
    try:
        hints = typing.get_type_hints(function)
        first = next(iter(inspect.signature(function).parameters))
    except (NameError, TypeError, ValueError, AttributeError, StopIteration):
        return ()
    hint = hints.get(first)
    members = typing.get_args(hint) if isinstance(hint, UnionType) or _is_union(hint) else (hint,)
    classes = tuple(member for member in members if isinstance(member, type) and issubclass(member, Event))
    return classes if len(classes) == len(members) else ()


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) is typing.Union


def _refuse_deeper(package: ModuleType) -> None:
    """Raise StartError for a marked function where none is looked for: below a module of the package.

    The files are parsed, not imported: a package of handlers may contain tests or scripts.
    """
    for folder in map(Path, package.__path__):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).parts
            deeper = len(parts) > 2 or (len(parts) == 2 and parts[1] != "__init__.py")
            hidden = any(part.startswith(".") for part in parts)
            marked = _marked_line(path) if deeper and not hidden else None
            if marked:
                raise StartError(
                    f"{_relative(package, str(path))}, line {marked}: a handler is only found in "
                    f"{package.__name__}/{parts[0]}.py or {package.__name__}/{parts[0]}/__init__.py"
                )


def _marked_line(path: Path) -> int | None:
    """The line of the first function that is decorated with flowhook's `on`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # Whoever imports the file reports what is wrong with it.
        return None
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("flowhook", "flowhook.handler")
        for alias in node.names
        if alias.name == "on"
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in (*names, "flowhook.on"):
                    return decorator.lineno
    return None
