"""/openapi.json, and /docs: the same for people, made whole here, so that it needs no network."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from pinqueue.api.openapi import REFERENCE, document
from pinqueue.api.routes import Declared

Json = dict[str, Any]

WRITTEN = {
    "date-time": "time with offset",
    "iso-8601": "date, or date and time",
    "written-duration": "duration",
}
"""How a string is written, for people; other formats are for programs that make some."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def pages(table: Iterable[Declared]) -> list[Route]:
    """Both are made once, when first asked for: most processes never are."""

    @cache
    def spec() -> Json:
        return document(table)

    @cache
    def html() -> str:
        return page(spec())

    async def openapi(request: Request) -> Response:
        return JSONResponse(spec())

    async def docs(request: Request) -> Response:
        return HTMLResponse(html(), headers={"Content-Security-Policy": POLICY})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def page(spec: Json) -> str:
    templates = Environment(
        loader=PackageLoader("pinqueue", "templates"), autoescape=True, undefined=StrictUndefined
    )
    templates.trim_blocks = templates.lstrip_blocks = True
    return templates.get_template("docs.html").render(
        info=spec["info"],
        sections=list(_sections(spec)),
        shapes={name: list(_fields(shape)) for name, shape in _shapes(spec).items()},
    )


def _shapes(spec: Json) -> dict[str, Json]:
    schemas: dict[str, Json] = spec["components"]["schemas"]
    return {name: schemas[name] for name in sorted(schemas)}


def _sections(spec: Json) -> Iterator[tuple[str, list[Json]]]:
    for tag in spec["tags"]:
        yield (
            tag["name"],
            [
                _shown(spec, method.upper(), path, told)
                for path, methods in spec["paths"].items()
                for method, told in methods.items()
                if told["tags"] == [tag["name"]]
            ],
        )


def _shown(spec: Json, method: str, path: str, told: Json) -> Json:
    asked = told["security"][0] if told["security"] else {}
    body = _content(told["requestBody"]) if "requestBody" in told else None
    return {
        **told,
        "method": method,
        "path": path,
        "description": told.get("description", ""),
        "scope": next(iter(asked.get("key", [])), None),
        "signed": "signature" in asked,
        "fields": [
            {
                "name": given["name"],
                "required": given["required"],
                "description": given.get("description", ""),
                "type": _kind(given["schema"]),
                "default": _default(given["schema"]),
            }
            for given in told["parameters"]
        ],
        "body": _kind(body) if body else None,
        "curl": None if "signature" in asked else _curl(spec, method, path, told),
        "replies": [
            (status, reply["description"], _kind(_content(reply)))
            for status, reply in told["responses"].items()
        ],
    }


def _content(told: Json) -> Json:
    schema: Json = next(iter(told["content"].values()))["schema"]
    return schema


def _fields(shape: Json) -> Iterator[Json]:
    """The rows of a shape; one that is a choice of words has a single row."""
    if "properties" not in shape:
        yield {"name": "", "type": _kind(shape), "required": True, "description": "", "default": ""}
    for name, schema in shape.get("properties", {}).items():
        yield {
            "name": name,
            "type": _kind(schema),
            "required": name in shape.get("required", []),
            "description": schema.get("description", ""),
            "default": _default(schema),
        }


def _default(schema: Json) -> str:
    return json.dumps(schema["default"]) if schema.get("default") is not None else ""


def _kind(schema: Json) -> str:
    """What a schema allows, in a few words; the name of a shape stands for the shape."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REFERENCE)
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"]) or "empty"
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("type") == "object" and "additionalProperties" in schema:
        return f"map to {_kind(schema['additionalProperties'])}"
    return WRITTEN.get(schema.get("format", "")) or str(schema.get("type", "any"))


def _curl(spec: Json, method: str, path: str, told: Json) -> str:
    for given in told["parameters"]:
        if given["in"] == "path":
            path = path.replace(f"{{{given['name']}}}", str(_example(given["schema"])))
    query = "&".join(
        f"{given['name']}={_example(given['schema'])}"
        for given in told["parameters"]
        if given["in"] == "query" and given["required"]
    )
    words = ["curl", "-s"] + (["-X", method] if method != "GET" else [])
    words.append(f'"$PINQUEUE{path}{"?" + query if query else ""}"')
    if told["security"]:
        words += ["-H", '"Authorization: Bearer $KEY"']
    if "requestBody" in told:
        shape = spec["components"]["schemas"][_kind(_content(told["requestBody"]))]
        example = {
            name: _example(schema)
            for name, schema in shape["properties"].items()
            if "examples" in schema or name in shape.get("required", [])
        }
        if example:
            words += ["-H", "'Content-Type: application/json'"]
            words += ["-d", shlex.quote(json.dumps(example, ensure_ascii=False))]
    return " ".join(words)


def _example(schema: Json) -> Any:
    return schema["examples"][0] if "examples" in schema else schema["enum"][0]
