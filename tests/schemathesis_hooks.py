"""What schemathesis needs to know of the API: how webhooks are signed, what our formats hold.

`tests/schemathesis.toml` names this module. It writes each call's operation and status, as a line
of JSON, to the file that CALLS names.
"""

from __future__ import annotations

import base64
import json
import os
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis import Case, HookContext, Response

from pinqueue.config import duration_text
from tests import factories
from tests.serving import sign

CALLS = Path(os.environ["CALLS"])
secrets = {"my-site": factories.SECRET}
"""Of each source, the newest: what adding and rotating answered."""
_events = count(1)


class Signed(AuthBase):
    """Signs the very bytes that are sent."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else body
        source = (request.url or "").partition("?")[0].rpartition("/")[2]
        secret = secrets.get(source, factories.SECRET)
        headers = sign(raw, f"msg_{next(_events)}", secret=secret)
        del headers["content-type"]
        request.headers.update(headers)
        return request


schemathesis.auth.set_from_requests(  # type: ignore[attr-defined]  # their types leave it out
    Signed()
).apply_to(path="/webhooks/{source}")


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    if response.status_code < 400 and case.path.startswith("/api/sources"):
        told = response.json()
        if "secret" in told:
            secrets[told["id"]] = told["secret"]
    with CALLS.open("a") as file:
        file.write(json.dumps([case.operation.label, case.method, response.status_code]) + "\n")


printable = st.text(max_size=60).filter(lambda text: text.isprintable() and text == text.strip())
schemathesis.openapi.format("printable", printable.filter(bool))
schemathesis.openapi.format("iso-8601", st.datetimes().map(lambda moment: moment.isoformat()))
schemathesis.openapi.format(
    "time-zone", st.sampled_from(["UTC", "America/Sao_Paulo", "Asia/Tokyo"])
)
schemathesis.openapi.format(
    "cursor",
    printable.filter(bool).map(
        lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    ),
)
schemathesis.openapi.format(
    "webhook-secret",
    st.binary(min_size=24, max_size=64).map(
        lambda secret: "whsec_" + base64.b64encode(secret).decode()
    ),
)
schemathesis.openapi.format(
    "written-duration",
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=365)).map(duration_text),
)
