"""openapi.json, made of the same table as the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from pinqueue.api.routes import Declared, needs_body

REFERENCE = "#/components/schemas/"
INTRODUCTION = """\
Reservations become door PINs that work exactly when they should.

Every route under `/api` asks for a key: `Authorization: Bearer pq_...`, made by
`pinqueue keys create NAME --scope SCOPE`. A key with `read` may look, `operate` may also change
stays and jobs, `reveal` may also see PINs, `admin` may do all. Errors have one shape, and
`details` name the fields. Each call is one transaction: what is answered is committed."""
SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key, pq_..."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks 1.0.0, with the headers webhook-id and webhook-timestamp",
    },
}

Schemas = dict[tuple[Any, JsonSchemaMode], dict[str, Any]]


def document(table: Iterable[Declared]) -> dict[str, Any]:
    table = list(table)
    schemas, parts = models_json_schema(
        sorted(set(_models(table)), key=str), ref_template=REFERENCE + "{model}"
    )
    components: dict[str, Any] = parts.get("$defs", {})
    # Parameters are told one by one: their models stand for nothing that is sent.
    grouped = {
        one.parameters: components.pop(_name(schemas[one.parameters, "validation"]), {})
        for one in {one.parameters: one for one in table}.values()
    }
    paths: dict[str, Any] = {}
    for one in table:
        described = _described(one, schemas, grouped[one.parameters])
        paths.setdefault(one.path, {})[one.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PinQueue",
            "version": version("pinqueue"),
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(one.tag for one in table)],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY},
    }


def _models(table: Iterable[Declared]) -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    for one in table:
        yield one.parameters, "validation"
        if one.body is not None:
            yield one.body, "validation"
        for told in one.replies.values():
            yield told, "serialization"


def _described(one: Declared, schemas: Schemas, given: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [one.tag],
        "operationId": one.name,
        "summary": one.summary.rstrip("."),
        "description": one.description,
        "parameters": list(_parameters(one, given)),
        "responses": {
            str(status): {
                "description": HTTPStatus(status).phrase,
                "content": _json(schemas[told, "serialization"]),
            }
            for status, told in sorted(one.replies.items())
        },
        "security": [{"key": [one.scope]}] if one.scope else [],
    }
    if one.body is not None:
        content = _json(schemas[one.body, "validation"])
        described["requestBody"] = {"required": needs_body(one.body), "content": content}
    return {**{key: value for key, value in described.items() if value != ""}, **one.extra}


def _parameters(one: Declared, given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, schema in given.get("properties", {}).items():
        in_path = f"{{{name}}}" in one.path
        schema = _given_or_not(schema)
        told: dict[str, Any] = {"name": name, "in": "path" if in_path else "query"}
        told["required"] = in_path or name in given.get("required", [])
        if "description" in schema:
            told["description"] = schema.pop("description")
        yield told | {"schema": schema}


def _given_or_not(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out, never null."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    if schema.get("default", 0) is None:
        del schema["default"]
    options = schema.pop("anyOf", None)
    if options is not None:
        (only,) = [option for option in options if option != {"type": "null"}]
        schema |= only
    return schema


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _name(reference: dict[str, Any]) -> str:
    return str(reference.get("$ref", "")).removeprefix(REFERENCE)
