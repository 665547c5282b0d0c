"""Signing in with e-mail and password, staying signed in, signing out; the keys that access tokens are verified by."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from memcube_common.contracts.identity import Jwks, PasswordChange, Refresh, SignIn, TokenAnswer
from memcube_gateway.routes import reference
from memcube_gateway.routes.bodies import parse, read_body
from memcube_gateway.routes.door import InAccountVisit, InStrangerVisit
from memcube_gateway.routes.once import JSON

router = APIRouter(tags=["auth"])

NO_STORE: Final = {"cache-control": "no-store"}
_SIGN_IN: Final = TypeAdapter(SignIn)
_REFRESH: Final = TypeAdapter(Refresh)
_CHANGE: Final = TypeAdapter(PasswordChange)
_TOKENS: Final = TypeAdapter(TokenAnswer)


@router.post(
    "/v1/auth/token",
    operation_id="sign_in",
    summary="Sign in with e-mail and password",
    response_model=TokenAnswer,
    responses=reference.problems(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra=reference.shows_once(
        (SignIn,),
        {"ada": {"email": "ada@example.org", "password": "correct horse battery staple"}},
        is_open=True,
    ),
)
async def sign_in(request: Request, visit: InStrangerVisit) -> Response:
    """An access token for one hour and a refresh token for the next pair.

    An unknown e-mail, a wrong password and a disabled account answer alike. Five failures a minute for one e-mail,
    or twenty from one address, are answered 429.
    """
    given = parse(_SIGN_IN, await read_body(request, visit))
    answer = await visit.room.desk.sign_in(
        email=given.email,
        password=given.password.get_secret_value(),
        patience=visit.patience,
        address=visit.network,
    )
    return Response(_TOKENS.dump_json(answer), media_type=JSON, headers=NO_STORE)


@router.post(
    "/v1/auth/refresh",
    operation_id="refresh_session",
    summary="Exchange a refresh token for the next pair of tokens",
    response_model=TokenAnswer,
    responses=reference.problems(400, 401, 408, 413, 415, 422, 503),
    openapi_extra=reference.shows_once((Refresh,), {"next": {"refresh_token": "mc_ref_…"}}, is_open=True),
)
async def refresh_session(request: Request, visit: InStrangerVisit) -> Response:
    """A refresh token is valid once, for 30 days; a session lasts 90 at most.

    The same token again within ten seconds gets the same next one, so that nothing is lost where an answer was. Later
    it is taken for stolen, and its session ends.
    """
    given = parse(_REFRESH, await read_body(request, visit))
    answer = await visit.room.desk.refresh(token=given.refresh_token.get_secret_value(), patience=visit.patience)
    return Response(_TOKENS.dump_json(answer), media_type=JSON, headers=NO_STORE)


@router.post(
    "/v1/auth/logout",
    operation_id="sign_out",
    summary="Sign out",
    status_code=204,
    response_class=Response,
    responses=reference.problems(401, 503),
)
async def sign_out(visit: InAccountVisit) -> Response:
    """End this session: its access tokens open nothing within five seconds, its refresh tokens at once."""
    await visit.room.desk.sign_out(visit.holder, visit.patience)
    return Response(status_code=204)


@router.post(
    "/v1/auth/password",
    operation_id="change_password",
    summary="Change the password",
    status_code=204,
    response_class=Response,
    responses=reference.problems(400, 401, 408, 409, 413, 415, 422, 429, 503),
    openapi_extra=reference.shows_once(
        (PasswordChange,),
        {"change": {"current_password": "correct horse battery staple", "new_password": "another long sentence"}},
    ),
)
async def change_password(request: Request, visit: InAccountVisit) -> Response:
    """Every other session of the account ends; this one goes on."""
    given = parse(_CHANGE, await read_body(request, visit))
    await visit.room.desk.change_password(
        visit.holder,
        current=given.current_password.get_secret_value(),
        new=given.new_password.get_secret_value(),
        patience=visit.patience,
        address=visit.network,
    )
    return Response(status_code=204)


@router.get(
    "/.well-known/jwks.json",
    operation_id="get_jwks",
    summary="The public keys of access tokens",
    response_model=Jwks,
    openapi_extra={"security": []},
)
async def get_jwks(visit: InStrangerVisit) -> dict[str, list[dict[str, str]]]:
    """For whoever verifies access tokens without asking; the first key signs now."""
    return visit.room.desk.keys.jwks()
