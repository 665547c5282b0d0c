"""What screening finds, what it leaves alone, what it makes of a text, and how long a hostile one takes."""

from __future__ import annotations

import base64
import string
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcube_common.contracts.api import InsightSubmission
from memcube_common.contracts.fields import CONTENT_MAX_BYTES, Governance
from memcube_common.errors import Invalid
from memcube_common.screening import (
    KINDS,
    Screened,
    ScreeningThreads,
    screen,
    screen_message,
    screen_writing,
    screen_writing_soon,
)
from memcube_common.security.keys import new_key


def run(alphabet: str, length: int) -> str:
    """As many characters as a token has, with digits and both cases among them; no real token."""
    return (alphabet * (length // len(alphabet) + 1))[:length]


ALNUM = "a1B2c3D4e5F6g7H8i9J0kLmNoP"
LOWER = "a1b2c3d4e5f60718293a4b5c6d7e8f90"


def jwt() -> str:
    """A token whose parts say what they are."""
    head, body = (
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b'{"alg":"HS256"}', b'{"sub":"somebody"}')
    )
    return f"{head}.{body}.{run(ALNUM, 43)}"


PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join([run(ALNUM, 64)] * 3) + "\n-----END RSA PRIVATE KEY-----"

APP = "xapp" + "-1-" + run(ALNUM, 60)
SLACK_HOOK = "https://hooks.slack.com/services/T01/B02/"

NETHERLANDS = "nl91abna0417164300"
TYPESET = ("4111\u00a01111\u202f1111 1111", "\uff14111 1111 1111 1111")
HYPHENS = "415\u2011555\u20112671"

FOUND: dict[str, list[str]] = {
    "secret:private_key": [
        PEM,
        PEM.replace("\n", "\\n"),
        PEM.replace("RSA ", "").partition("\n-----END")[0],
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + run(ALNUM, 64) + "\n-----END PGP PRIVATE KEY BLOCK-----",
        f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n{run(ALNUM, 64)}\nPrivate-MAC: {run(LOWER, 40)}",
    ],
    "secret:memcube_key": [new_key(), new_key("publishable")],
    "secret:jwt": [jwt()],
    "secret:aws_key": ["AKIA" + run("ABCDEFGH12345678", 16), "ASIA" + run("Q7", 16)],
    "secret:docker_token": ["dckr_pat" + "_" + run(ALNUM, 27)],
    "secret:huggingface_token": ["hf" + "_" + run(string.ascii_letters, 34)],
    "secret:anthropic_key": ["sk-ant-" + "api03-" + run(ALNUM, 80)],
    "secret:artifactory_token": ["AKC" + run(ALNUM, 60), "APA" + run(ALNUM, 30)],
    "secret:azure_key": ["AccountKey=" + run(ALNUM, 86) + "=="],
    "secret:discord_token": ["M" + run(ALNUM, 23) + "." + run(ALNUM, 6) + "." + run(ALNUM, 27)],
    "secret:github_token": ["ghp" + "_" + run(ALNUM, 36), "github" + "_pat_" + run(ALNUM, 82)],
    "secret:gitlab_token": ["glpat" + "-" + run(ALNUM, 20)],
    "secret:google_key": ["AIza" + run(ALNUM, 35)],
    "secret:mailchimp_key": [run(LOWER, 32) + "-us12"],
    "secret:npm_token": ["npm" + "_" + run(ALNUM, 36), run(LOWER, 8) + "-4a5b-4c6d-8e7f-" + run(LOWER, 12)],
    "secret:openai_key": ["sk-" + run(ALNUM, 48), "sk-proj-" + run(ALNUM, 100)],
    "secret:pypi_token": ["pypi-" + "AgEIcHlwaS5vcmc" + run(ALNUM, 90)],
    "secret:sendgrid_key": ["SG." + run(ALNUM, 22) + "." + run(ALNUM, 43)],
    "secret:slack_token": ["xoxb" + "-123456789012-" + run(ALNUM, 24), SLACK_HOOK + run(ALNUM, 24), APP],
    "secret:square_token": ["sq0csp-" + run(ALNUM, 43)],
    "secret:stripe_key": ["sk" + "_live_" + run(ALNUM, 24), "rk" + "_live_" + run(ALNUM, 90)],
    "secret:telegram_token": ["123456789:" + run(ALNUM, 35)],
    "secret:twilio_key": ["SK" + run(LOWER, 32)],
    "secret:basic_auth": ["hunter2", "p@ss:w@rd"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR1420041010050500013M02606", NETHERLANDS],
    "credit_card": ["4111 1111 1111 1111", *TYPESET, "5500-0000-0000-0004", "378282246310005", "6011000990139424"],
    "us_ssn": ["536-90-4399"],
    "br_cpf": ["390.533.447-05"],
    "it_codice_fiscale": ["RCCMNL83S18D969H"],
    "phone": ["+44 20 8366 1177", "+1 (415) 555-2671", "(415) 555-2671", "415-555-2671", HYPHENS, "+49 30 901820"],
    "email": ["bob@example.com", "o'brien.a+tag@mail.example.co.uk", "用户@例子.广告"],
    "ip_address": ["52.95.110.1", "2600:1f18:2f3c:a00::1"],
}  # fmt: skip
CONTEXT = {
    "secret:basic_auth": "postgres://admin:{}@db.example/app",
    "secret:npm_token": "//registry.npmjs.org/:_authToken={}",
}
EXAMPLES = [pytest.param(kind, text, id=f"{kind}-{n}") for kind, all_ in FOUND.items() for n, text in enumerate(all_)]

LEFT_ALONE = [
    NETHERLANDS + "7f",
    "xapp-socket-mode-application-name-is-long-here",
    "Released on 2026-11-22 at 18:25:23.004512+00:00, version 10.4.19.2 (build 1.2.3.4), formerly v3.14.15-rc.1.",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b, e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "0192f0c1-7c3a-7b1e-9d2a-5f6e7d8c9b0a, order 2026-000123-77, invoice 4711 0815, ticket JIRA-12345, PO 123-45-678",
    "It cost $1,299.99 or 1.299,99 EUR for 100 000 units; 16 digits: 1234567812345678; epoch 1732299923, 1732299923004",
    "listens on 127.0.0.1:8080, 192.168.1.20, 10.0.0.5 and ::1; MAC 00:1b:44:11:3a:b7; ratio 3:2; 12:30:45",
    "std::vector<a::b> and icon@2x.png and git@github.com:org/repo.git and lodash@4.17.21 and @types/node",
    "https://example.org/a:b@c?user=x and mailto without anybody, foo@bar, a @ b.c, 5 @ 3.50 each",
    "sk-learn, sk-button-primary-large-with-a-very-long-class-name-that-never-ends, AKIARA, APACHE2LICENSE, SKU 12",
    "eyJust a sentence. eyJhYmM.def is no token; -----BEGIN CERTIFICATE----- ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
    "+1 for this idea, +20 % on Monday, 2+2=4, call 911, room 415-555, pages 415-555-26, 0800 for free",
    "ISBN 978-3-16-148410-0, EAN 4006381333931, DOI 10.1000/182, GPS 52.520008, 13.404954, sqrt(2)=1.41421356237309",
    "DE12 is a road; GB29 NOT AN ACCOUNT AT ALL REALLY; mc_sec_" + "A" * 49 + " has no checksum",
    "[redacted:email] wrote to [redacted:phone] through postgres://x:[redacted:secret:basic_auth]@host/db",
]


@pytest.mark.parametrize(("kind", "needle"), EXAMPLES)
def test_each_kind_is_found_alone_and_inside_prose(kind: str, needle: str) -> None:
    wrapped = CONTEXT.get(kind, "{}").format(needle)
    for text in (wrapped, f"They said: {wrapped}. Keep it!", f"«{wrapped}»\nand \U0001f600 more"):
        redacted = screen(text, "redact")
        assert redacted.kinds == (kind,)
        assert needle not in redacted.text
        assert f"[redacted:{kind}]" in redacted.text
        assert screen(text, "tag") == Screened(text, (kind,))
        assert screen(text, "off") == Screened(text)


def test_every_kind_has_an_example_and_is_told_to_those_who_read() -> None:
    page = (Path(__file__).parents[3] / "docs/API.md").read_text(encoding="utf-8")
    assert set(FOUND) == set(KINDS)
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_alike_is_left_alone(text: str) -> None:
    assert screen(text, "redact") == Screened(text)


@pytest.mark.parametrize(
    "written", ["aws_secret_access_key = {}", "AWS_SECRET_ACCESS_KEY={}", '"SecretAccessKey": "{}"']
)
def test_a_secret_access_key_is_found_beside_its_name(written: str) -> None:
    key = run(ALNUM + "/+", 40)
    assert screen(written.format(key), "redact") == Screened(
        written.format("[redacted:secret:aws_key]"), ("secret:aws_key",)
    )


def test_what_has_many_pieces_costs_no_more_than_what_has_one() -> None:
    """The proofs of one body are counted together: beyond them each candidate counts, and is not tried."""
    false = [f"+999 555 {n:04d}" for n in range(640)]
    body = InsightSubmission(insight="Numbers.", metadata={str(n): one for n, one in enumerate(false)})
    screened = screen_writing(body, "redact")
    kept = [value for value in screened.metadata.values() if value in false]
    assert 500 < len(kept) < 600


def test_only_what_was_found_is_replaced() -> None:
    text = "Ask bob@example.com (+44 20 8366 1177), not postgres://app:hunter2@db.internal.example/app \U0001f600."

    redacted = screen(text, "redact")

    assert redacted.text == (
        "Ask [redacted:email] ([redacted:phone]), not"
        " postgres://app:[redacted:secret:basic_auth]@db.internal.example/app \U0001f600."
    )


PIECES = st.one_of(
    st.sampled_from([CONTEXT.get(kind, "{}").format(one) for kind, all_ in FOUND.items() for one in all_]),
    st.sampled_from(["[redacted:email]", "://", "@", ":", "+1", " ", ".", "-", "sk-", "eyJ", "\U0001f600", "é"]),
    st.text(alphabet=string.printable + "é\U0001f600", max_size=8),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=10).map("".join))
def test_nothing_is_found_in_what_was_redacted(text: str) -> None:
    redacted = screen(text, "redact")

    assert screen(redacted.text, "redact") == Screened(redacted.text)
    assert set(redacted.kinds) <= set(KINDS)
    redacted.text.encode()


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "eyJ",
            "eyJa.",
            "sk-",
            "://a:",
            "http://a:a",
            "a@",
            "a@a.",
            "a-",
            "+1-",
            "1-",
            "1.",
            "AA11 ",
            "a::",
            "(",
            "11",
        ),
        *("glagent-", "awskey'", "xoxa-1-", "1-1-", "npm_", "AKC1aA", "0123456789abcdef", "M" * 24 + ".aaaaaa."),
        *("-----BEGIN PRIVATE KEY-----", "PuTTY-User-Key-File-2:", "//registry/:_authToken="),
        *("4111111111111111 ", "+442083661177 ", "bob@example.com ", "52.95.110.1 ", "AAAAAA11A11A111A "),
    ],
)
def test_a_hostile_text_of_64_kib_takes_less_than_a_second(piece: str) -> None:
    text = (piece * (CONTENT_MAX_BYTES // len(piece) + 1))[:CONTENT_MAX_BYTES]
    started = time.process_time()
    screen(text, "redact")
    assert time.process_time() - started < 1


async def test_everything_somebody_wrote_is_screened_and_marked(threads: ScreeningThreads) -> None:
    body = InsightSubmission.model_validate(
        {
            "insight": "Bob is at bob@example.com.",
            "label": "Bob +44 20 8366 1177",
            "tags": ["people", "bob@example.com"],
            "evidence_refs": ["https://bob:hunter2@wiki.example/page"],
            "metadata": {"card": ["4111 1111 1111 1111", 7], "bob@example.com": 1, "ann@example.com": {"x": None}},
            "governance": {"visibility": "private", "pii_kinds": ["name"]},
        }
    )

    [screened] = await screen_writing_soon([body], "redact", threads, within=5)
    [tagged] = await screen_writing_soon([body], "tag", threads, within=5)
    kinds = ["name", "credit_card", "email", "phone", "secret:basic_auth"]

    assert screened.insight == "Bob is at [redacted:email]."
    assert screened.label == "Bob [redacted:phone]"
    assert screened.tags == ["people", "[redacted:email]"]
    assert screened.evidence_refs == ["https://bob:[redacted:secret:basic_auth]@wiki.example/page"]
    assert screened.metadata == {
        "card": ["[redacted:credit_card]", 7], "[redacted:email]": 1, "[redacted:email] 2": {"x": None}
    }  # fmt: skip
    assert screened.governance == Governance(visibility="private", pii_kinds=kinds, pii_tagged=True)
    assert tagged == body.model_copy(update={"governance": screened.governance})


async def test_what_is_clean_stays_the_very_same(threads: ScreeningThreads) -> None:
    body = InsightSubmission(insight="Nothing to see here.", tags=["plain"])
    assert screen_writing(body, "redact") == body
    assert await screen_writing_soon([body], "off", threads, within=5) == [body]


async def test_names_are_cut_and_texts_refused_where_marks_make_them_too_long(threads: ScreeningThreads) -> None:
    long_label = screen_writing(InsightSubmission(insight="x", label="a@b.co " * 28, tags=["a@b.co " * 9]), "redact")
    with pytest.raises(Invalid) as refused:
        await screen_writing_soon([InsightSubmission(insight="52.95.110.1 " * 5_400)], "redact", threads, within=5)

    assert long_label.label is not None
    assert len(long_label.label) == 200
    assert [len(tag) for tag in long_label.tags] == [64]
    assert [error.field for error in refused.value.errors] == ["insight"]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"insight": "Ask bob\\u0040example.com", "n": 1}', b'{"insight": "Ask [redacted:email]", "n": 1}'),
        (b'{"a": "bob@example.com", "a": "nobody"}', b'{"a": "[redacted:email]", "a": "nobody"}'),
        (b"\xff not JSON, bob@example.com", b"\xff not JSON, [redacted:email]"),
        (b'{"a":  "clean", "b": 1e400}', b'{"a":  "clean", "b": 1e400}'),
    ],
)
def test_a_message_that_is_set_aside_is_screened_whatever_it_is(body: bytes, kept: bytes) -> None:
    assert screen_message(body, "redact") == kept
    assert screen_message(body, "tag") == body
