"""Secrets in text: by the patterns of detect-secrets where these take linear time, by our own where they do not.

Not used of detect-secrets: its entropy and keyword plugins (too many false alarms in prose), its verification (it would
send what it finds to others), and its patterns for npm, OpenAI, JWT and URL passwords (quadratic in a hostile text).
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import orjson

from memcube_common.security.keys import is_well_formed

Span = tuple[int, int, str]
"""Where something begins and ends in the text, and of which kind it is."""

_TOKEN_TAIL: Final = re.compile(r"[A-Za-z0-9_-]*+")
_WORD: Final = re.compile(r"[A-Za-z0-9_]")

# Every pattern begins where a run of its characters begins, and gives nothing back: each takes linear time.
_OWN: Final[Sequence[tuple[str, str, re.Pattern[str]]]] = (
    ("secret:anthropic_key", "sk-ant-", re.compile(r"(?<![A-Za-z0-9_-])sk-ant-[A-Za-z0-9_-]{20,}+")),
    (
        "secret:openai_key",
        "sk-",
        re.compile(r"(?<![A-Za-z0-9_-])sk-(?!ant-)[A-Za-z0-9_-]{40,}+"),
    ),
    ("secret:google_key", "AIza", re.compile(r"(?<![A-Za-z0-9_-])AIza[A-Za-z0-9_-]{35}+(?![A-Za-z0-9_-])")),
    ("secret:github_token", "github_pat_", re.compile(r"(?<![A-Za-z0-9_-])github_pat_[A-Za-z0-9_]{40,}+")),
    ("secret:docker_token", "dckr_", re.compile(r"(?<![A-Za-z0-9_-])dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}+")),
    ("secret:huggingface_token", "hf_", re.compile(r"(?<![A-Za-z0-9_-])hf_[A-Za-z0-9]{34,}+")),
    ("secret:slack_token", "xapp-", re.compile(r"(?<![A-Za-z0-9_-])xapp-\d-[A-Za-z0-9-]{30,}+")),
    ("secret:npm_token", "npm_", re.compile(r"(?<![A-Za-z0-9_-])npm_[A-Za-z0-9]{36,}+")),
    ("secret:npm_token", "_authToken", re.compile(r"(?<=:_authToken=)[^\s\[]\S{7,255}+")),
)
_AWS_SECRET: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:aws_?)?secret_?(?:access_?)?key[\"']?\s{0,8}[:=]\s{0,8}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    re.IGNORECASE,
)
_JWT: Final = re.compile(r"(?<![A-Za-z0-9_-])(eyJ[A-Za-z0-9_-]{10,}+)\.[A-Za-z0-9_-]{2,}+(?:\.[A-Za-z0-9_-]*+)?")
_OURS: Final = re.compile(r"(?<![A-Za-z0-9])mc_(?:sec|pub)_[A-Za-z0-9_-]{49}")
_PEM_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_LINES: Final = re.compile(r"(?:(?:\s|\\n|\\r)++[A-Za-z0-9+/=]{16,}+)*+")
_PUTTY_BEGIN: Final = re.compile(r"PuTTY-User-Key-File-[0-9]:")
_PUTTY_END: Final = re.compile(r"Private-(?:MAC|Hash): ?[0-9a-fA-F]++")
_BASIC_AUTH: Final = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,24}+://[^\s/?#:@]{0,255}+:"
    r"(?!\[redacted:[a-z_:]{1,40}\]@)([^\s/?#]{1,255})@"
)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A pattern of detect-secrets. hint: text without which it cannot match. group: what of the match is the secret."""

    kind: str
    hint: str
    pattern: re.Pattern[str]
    group: int = 0


def find_secrets(text: str) -> Iterator[Span]:
    """Every secret in `text`, overlapping ones too, in no order."""
    yield from _keys_in_blocks(text)
    if "mc_" in text:
        for match in _OURS.finditer(text):
            if is_well_formed(match[0]):
                yield *match.span(), "secret:memcube_key"
    if "eyJ" in text:
        for match in _JWT.finditer(text):
            if _says_algorithm(match[1]):
                yield *match.span(), "secret:jwt"
    for kind, hint, pattern in _OWN:
        if hint in text:
            for match in pattern.finditer(text):
                if kind != "secret:openai_key" or _is_random(match[0]):
                    yield *match.span(), kind
    if "ecret" in text or "ECRET" in text:
        for match in _AWS_SECRET.finditer(text):
            if _is_random(match[1]):
                yield *match.span(1), "secret:aws_key"
    if "://" in text:
        for match in _BASIC_AUTH.finditer(text):
            yield *match.span(1), "secret:basic_auth"
    lowered = text.lower()
    for taken in _taken():
        if taken.hint not in lowered:
            continue
        tail_end = 0
        for match in taken.pattern.finditer(text):
            start, end = match.span(taken.group)
            if start and _WORD.match(text, start - 1):
                continue
            if taken.kind == "secret:artifactory_token" and not _is_random(text[start:end]):
                continue
            if end > tail_end:  # else in the run that was looked through for the one before: each takes linear time
                tail = _TOKEN_TAIL.match(text, end)
                tail_end = end if tail is None else tail.end()
            yield start, tail_end, taken.kind  # a longer key than the pattern knows is still one key


def _keys_in_blocks(text: str) -> Iterator[Span]:
    """Private keys as a whole; one whose end is missing, as far as it looks like one."""
    for begin, end in ((_PEM_BEGIN, _PEM_END), (_PUTTY_BEGIN, _PUTTY_END)):
        starts = [match.span() for match in begin.finditer(text)]
        if not starts:
            continue
        ends = iter([match.span() for match in end.finditer(text)])
        close = next(ends, None)
        for start, after in starts:
            while close is not None and close[0] < after:
                close = next(ends, None)
            if close is not None:
                yield start, close[1], "secret:private_key"
            elif begin is _PEM_BEGIN and (lines := _PEM_LINES.match(text, after)) is not None:
                yield start, lines.end(), "secret:private_key"
            else:
                yield start, len(text), "secret:private_key"
                break


def _says_algorithm(part: str) -> bool:
    """Whether the first part of a token is a JSON object with `alg`."""
    try:
        head: object = orjson.loads(base64.urlsafe_b64decode(part[:4096] + "=" * (-len(part[:4096]) % 4)))
    except ValueError:
        return False
    return isinstance(head, dict) and "alg" in head


def _is_random(key: str) -> bool:
    """Whether it has digits and both cases: `sk-` also begins words that are joined by dashes."""
    return any(c.isdigit() for c in key) and any(c.isupper() for c in key) and any(c.islower() for c in key[3:])


@functools.cache
def _taken() -> Sequence[_Taken]:
    """The patterns of detect-secrets that are used; imported at the first text, since that takes 0.1 s and 20 MB."""
    from detect_secrets.plugins import (
        artifactory,
        aws,
        azure_storage_key,
        discord,
        github_token,
        gitlab_token,
        mailchimp,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )

    key_id, secret_key = _patterns(aws.AWSKeyDetector)
    bare = (
        re.compile(one.pattern.removeprefix(r'(?:\s|=|:|"|^)').removesuffix(r'(?:\s|"|$)'))
        for one in _patterns(artifactory.ArtifactoryDetector)
    )
    found = [
        _Taken("secret:aws_key", "a", key_id),
        _Taken("secret:aws_key", "aws", secret_key, 1),
        *(_Taken("secret:artifactory_token", "a", one) for one in bare),
    ]
    for kind, hint, detector in (
        ("secret:azure_key", "accountkey=", azure_storage_key.AzureStorageKeyDetector),
        ("secret:discord_token", ".", discord.DiscordBotTokenDetector),
        ("secret:github_token", "gh", github_token.GitHubTokenDetector),
        ("secret:gitlab_token", "g", gitlab_token.GitLabTokenDetector),
        ("secret:mailchimp_key", "-us", mailchimp.MailchimpDetector),
        ("secret:pypi_token", "pypi-", pypi_token.PypiTokenDetector),
        ("secret:sendgrid_key", "sg.", sendgrid.SendGridDetector),
        ("secret:slack_token", "xox", slack.SlackDetector),
        ("secret:slack_token", "hooks.slack.com", slack.SlackDetector),
        ("secret:square_token", "sq0csp-", square_oauth.SquareOAuthDetector),
        ("secret:stripe_key", "k_live_", stripe.StripeDetector),
        ("secret:telegram_token", ":", telegram_token.TelegramBotTokenDetector),
        ("secret:twilio_key", "c", twilio.TwilioKeyDetector),
        ("secret:twilio_key", "sk", twilio.TwilioKeyDetector),
    ):
        found.extend(_Taken(kind, hint, pattern) for pattern in _patterns(detector))
    return found


def _patterns(detector: type[object]) -> Sequence[re.Pattern[str]]:
    """The patterns of a plugin: declared as a property there, and a plain attribute of the class in truth."""
    return tuple(cast("Iterable[re.Pattern[str]]", vars(detector)["denylist"]))
