"""The reference to look at: Swagger UI out of a package, so that it works offline, and the events as AsyncAPI."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

import orjson
from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import Response

from memcube_common.contracts.description import asyncapi
from memcube_common.errors import NotFound

router = APIRouter(include_in_schema=False)

_INLINE: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

_PARTS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/docs")
async def show_reference() -> Response:
    """The OpenAPI document, to read and to try. The page may run its own script and call this gateway, nothing else."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="MemCube · HTTP reference",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        swagger_ui_parameters={"persistAuthorization": True, "displayRequestDuration": True},
    )
    page.headers["content-security-policy"] = _policy(bytes(page.body))
    return page


@router.get("/asyncapi")
async def show_events() -> Response:
    """The events on NATS, as an AsyncAPI 3.0 document."""
    return Response(orjson.dumps(asyncapi()), media_type="application/json")


@router.get("/docs/{part}")
async def show_part(part: str) -> Response:
    """A file of the page."""
    if part not in _PARTS:
        raise NotFound
    body = (files("fastapi_swagger.resources") / part).read_bytes()
    return Response(body, media_type=_PARTS[part], headers={"cache-control": "max-age=86400"})


def _policy(page: bytes) -> str:
    """The Content-Security-Policy of the reference: its one inline script by hash; Swagger UI styles inline and shows
    pictures out of its own style sheet.
    """
    scripts = [hashlib.sha256(script).digest() for script in _INLINE.findall(page)]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in scripts)
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
