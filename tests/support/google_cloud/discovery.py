"""Google's own descriptions of its APIs, and whether a request or an answer is what they describe.

They come with google-api-python-client.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import googleapiclient

from tests.support.google_cloud.exchange import Document, Refusal, Request, camel

FOLDER = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
ALWAYS = {"alt", "prettyPrint", "key", "fields", "quotaUser", "uploadType"}
# Described as required, and yet taken from the address or given by the service.
NOT_SENT = {"name", "etag"}
DURATION = re.compile(r"-?\d+(\.\d{1,9})?s")
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
MASK = re.compile(r"[A-Za-z_*]\w*(\.[A-Za-z_*][\w-]*)*(,\s?[A-Za-z_*]\w*(\.[A-Za-z_*][\w-]*)*)*")


@dataclass(frozen=True)
class Method:
    """One way to ask."""

    id: str
    parameters: Mapping[str, Mapping[str, Any]]
    request: str
    response: str
    schemas: Mapping[str, Any]

    def check_request(self, request: Request) -> None:
        """Raises Refusal where Google would refuse it: unknown names, wrong types, something missing."""
        try:
            self._check_parameters(request)
            if self.request:
                _Reader(self.schemas, strict=True).object(self.request, request.document, self.id)
                self._check_masks(request)
            elif request.document:
                raise ValueError(f"{self.id} takes no body")
        except ValueError as mistake:
            raise Refusal(400, f"Invalid JSON payload received. {mistake}") from None

    def check_answer(self, document: Document) -> None:
        """Raises AssertionError where the fake itself is wrong."""
        try:
            _Reader(self.schemas, strict=False).object(self.response, document, self.id)
        except ValueError as mistake:
            raise AssertionError(f"the fake's answer is not Google's: {mistake}") from None

    def _check_parameters(self, request: Request) -> None:
        for name, value in request.query.items():
            if name in ALWAYS or name.startswith("$"):
                continue
            declared = self.parameters.get(name)
            if declared is None or declared["location"] != "query":
                raise ValueError(f'Unknown name "{name}": Cannot bind query parameter.')
            _check_text(declared, value, name)
        for name, declared in self.parameters.items():
            if declared["location"] == "query" and _required(declared) and not request.query.get(name):
                raise ValueError(f"{name} must be given")

    def _check_masks(self, request: Request) -> None:
        """Each path of a mask names a field."""
        document = request.document
        mask, schema = request.query.get("updateMask", ""), self.request
        if "updateMask" in document:
            mask = document["updateMask"]
            inner = self.schemas[schema]["properties"]
            schema = next(p["$ref"] for name, p in inner.items() if name != "updateMask" and "$ref" in p)
        for path in filter(None, mask.split(",")):
            self._check_path(schema, path.strip())

    def _check_path(self, schema: str, path: str) -> None:
        for part in path.split("."):
            properties = self.schemas[schema].get("properties", {})
            if camel(part) not in properties:
                raise ValueError(f"the mask's {path} is no field of {schema}")
            schema = properties[camel(part)].get("$ref", "")
            if not schema:
                return


class _Reader:
    """Walks through a document beside its description."""

    def __init__(self, schemas: Mapping[str, Any], strict: bool) -> None:
        self._schemas = schemas
        self._is_request = strict

    def object(self, schema: str, document: Any, where: str) -> None:
        """Raises ValueError that names the place."""
        self._value({"$ref": schema}, document, where)

    def _value(self, declared: Mapping[str, Any], value: Any, where: str) -> None:
        if "$ref" in declared:
            declared = self._schemas[declared["$ref"]]
        kind = declared.get("type", "any")
        if kind == "object":
            self._object(declared, value, where)
        elif kind == "array":
            if not isinstance(value, list):
                raise ValueError(f"{where} is no list")
            for number, item in enumerate(value):
                self._value(declared["items"], item, f"{where}[{number}]")
        elif kind != "any":
            self._scalar(declared, kind, value, where)

    def _object(self, declared: Mapping[str, Any], value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is no object")
        properties, others = declared.get("properties", {}), declared.get("additionalProperties")
        for name, item in value.items():
            if name in properties:
                self._value(properties[name], item, f"{where}.{name}")
            elif others is None:
                raise ValueError(f'Unknown name "{name}" at "{where}": Cannot find field.')
            else:
                self._value(others, item, f"{where}.{name}")
        missing = [n for n, p in properties.items() if _required(p) and n not in value and n not in NOT_SENT]
        if self._is_request and missing:
            raise ValueError(f"{where} needs {', '.join(missing)}")

    def _scalar(self, declared: Mapping[str, Any], kind: str, value: Any, where: str) -> None:
        if kind == "boolean" and not isinstance(value, bool):
            raise ValueError(f"{where} is neither true nor false")
        if kind in ("integer", "number") and (
            isinstance(value, bool) or not isinstance(value, int | float if kind == "number" else int)
        ):
            raise ValueError(f"{where} is no {kind}")
        if kind == "string":
            if self._is_request and declared.get("format", "").endswith("int64"):
                value = str(value)
            if not isinstance(value, str):
                raise ValueError(f"{where} is no string")
            _check_text(declared, value, where)


def _check_text(declared: Mapping[str, Any], value: str, where: str) -> None:
    if declared.get("enum") and value not in declared["enum"]:
        raise ValueError(f"{where}: {value!r} is none of {declared['enum']}")
    form = declared.get("format", "")
    patterns = {"google-duration": DURATION, "google-datetime": STAMP, "google-fieldmask": MASK}
    if form in patterns and not patterns[form].fullmatch(value):
        raise ValueError(f"{where}: {value!r} is no {form}")
    if form.endswith("int64") and not re.fullmatch(r"-?\d+", value):
        raise ValueError(f"{where}: {value!r} is no number")
    if form == "byte":
        try:
            base64.b64decode(value, altchars=b"-_" if set(value) & set("-_") else None, validate=True)
        except binascii.Error:
            raise ValueError(f"{where} is no base64") from None
    if declared.get("type") in ("integer", "number") and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        raise ValueError(f"{where}: {value!r} is no number")


def _required(declared: Mapping[str, Any]) -> bool:
    return bool(declared.get("required")) or declared.get("description", "").startswith("Required.")


def find(request: Request) -> Method | None:
    """The method that a request is for. None where Google's documents know of none."""
    version = request.path.removeprefix("/storage").lstrip("/").partition("/")[0]
    service = request.host.removesuffix(".googleapis.com")
    service = "run" if service.endswith("-run") else service
    for verb, pattern, method in _methods(f"{service}.{version}"):
        if verb == request.method and pattern.fullmatch(request.path):
            return method
    return None


@cache
def _methods(document: str) -> list[tuple[str, re.Pattern[str], Method]]:
    path = FOLDER / f"{document}.json"
    if not path.exists():
        return []
    described = json.loads(path.read_text())
    base = f"/{described.get('servicePath', '')}"
    return [_method(base, found, described["schemas"]) for found in _walk(described)]


def _walk(described: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from described.get("methods", {}).values()
    for inner in described.get("resources", {}).values():
        yield from _walk(inner)


def _method(
    base: str, found: Mapping[str, Any], schemas: Mapping[str, Any]
) -> tuple[str, re.Pattern[str], Method]:
    flat = re.escape(base + found.get("flatPath", found["path"]))
    pattern = re.compile(re.sub(r"\\\{(?:\\\+)?\w+\\\}", "[^/:]+", flat))
    method = Method(
        found["id"],
        found.get("parameters", {}),
        found.get("request", {}).get("$ref", ""),
        found.get("response", {}).get("$ref", ""),
        schemas,
    )
    return found["httpMethod"], pattern, method
