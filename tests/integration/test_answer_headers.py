"""What every answer tells a browser, whoever asked for whatever."""

from __future__ import annotations

import pytest

from pinqueue.web import NO_PAGE
from tests.serving import Web, serving

PATHS = ["/healthz", "/webhooks/main", "/api/jobs", "/nothing/here", "/openapi.json"]
BY_TLS = [("X-Forwarded-Proto", "https")]


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_is_no_page_and_to_be_shown_in_none(shared_web: Web, path: str) -> None:
    told = shared_web.post(b"", {}, path, "GET").headers
    assert {name: told[name.lower()] for name in NO_PAGE} == NO_PAGE


def test_docs_is_a_page_that_runs_nothing_and_is_shown_in_no_other(shared_web: Web) -> None:
    policy = shared_web.post(b"", {}, "/docs", "GET").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy


def test_a_browser_that_came_by_tls_is_told_to_come_by_nothing_else(shared_web: Web) -> None:
    assert "max-age" in header(shared_web, BY_TLS)
    assert header(shared_web, []) == ""


def test_who_is_no_trusted_proxy_cannot_say_that_it_was_tls(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")
    with serving(database_url) as web:
        assert header(web, BY_TLS) == ""


def header(web: Web, asked: list[tuple[str, str]]) -> str:
    return web.post(b"", asked, "/healthz", "GET").headers.get("strict-transport-security", "")
