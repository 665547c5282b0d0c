"""Personal data in text: candidates by patterns that take linear time, each proved before it counts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from memcube_common.screening.secrets import Span

PROOFS: Final = 40_000
"""What the proofs of one body may cost together, in microseconds by `COST`; beyond that every candidate counts, so that
a hostile one costs little."""

COST: Final[Mapping[str, int]] = {
    "phone": 75,
    "iban": 200,
    "credit_card": 6,
    "us_ssn": 20,
    "br_cpf": 20,
    "it_codice_fiscale": 20,
    "email": 1,
    "ip_address": 5,
}
"""Microseconds that one proof takes, about: of an IBAN, of one as long as they may be."""

_PLAIN: Final = str.maketrans(
    {
        **dict.fromkeys("\u00a0\u2007\u2009\u202f", " "),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **{chr(zero + digit): str(digit) for zero in (0x0660, 0x06F0, 0x0966, 0xFF10) for digit in range(10)},
        "\uff0b": "+",
        "\uff0e": ".",
        "\uff20": "@",
    }
)
"""Spaces that break no line, hyphens and minus signs, and digits as other scripts write them: one character for one."""

_EMAIL: Final = re.compile(
    r"(?<!\w)[^\W_][\w.+'-]{0,63}+@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24})(?![\w-]|\.\w)"
)
_PICTURES: Final = frozenset({"gif", "jpeg", "jpg", "png", "svg", "webp"})
_INTERNATIONAL: Final = re.compile(r"(?<![\w+])\+[1-9](?:(?: ?\(0?\) ?|[ ./-]?\(?|\)?[ ./-]?)\d){6,14}(?!\w)")
_NORTH_AMERICAN: Final = re.compile(
    r"(?<![\w+.-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?![\w-]|\.\d)"
)
_CARD: Final = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){13,18}(?![\w-]|\.\d)")
_CARD_GROUPS: Final = frozenset({(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (6, 13)})
_ISSUERS: Final[Sequence[tuple[re.Pattern[str], frozenset[int]]]] = (
    (re.compile(r"4"), frozenset({16, 19})),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)"), frozenset({16})),
    (re.compile(r"3[47]"), frozenset({15})),
    (re.compile(r"3(?:0[0-5]|[689])"), frozenset({14})),
    (re.compile(r"35(?:2[89]|[3-8]\d)"), frozenset({16})),
    (re.compile(r"6(?:011|4[4-9]|5)"), frozenset({16})),
    (re.compile(r"62"), frozenset({16, 17, 18, 19})),
)
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}|[a-z]{2}\d\d(?: ?[a-z0-9]){11,30})")
_IBAN_LENGTHS: Final = range(15, 35)
_IBAN_VALUES: Final = {one: str(int(one, 36)) for one in "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_SSN: Final = re.compile(r"(?<![\w.-])\d{3}-\d{2}-\d{4}(?![\w-]|\.\d)")
_CPF: Final = re.compile(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-]|\.\d)")
_CODICE: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{6}\d\d[A-EHLMPR-T]\d\d[A-Z]\d{3}[A-Z](?![A-Za-z0-9])")
_IPV4: Final = re.compile(r"(?<![\w.+-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)")
_VERSION_BEFORE: Final = re.compile(r"(?:version|release|build|ver\.?|v\.?)[ :=]*\Z", re.IGNORECASE)
_HIGH_OCTET: Final = 32
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")


class Proofs:
    """What is left of `PROOFS`: of one body, however many texts it has and however often they are looked through."""

    def __init__(self) -> None:
        self._left = PROOFS

    def afford(self, kind: str) -> bool:
        """Whether one more candidate of `kind` may be proved; counts it."""
        self._left -= COST[kind]
        return self._left >= 0


def find_people(text: str, proofs: Proofs) -> Iterator[Span]:
    """Every e-mail address, telephone number, account, card, identity and address in `text`, overlapping ones too."""
    if not text.isascii():
        text = text.translate(_PLAIN)
    if "@" in text:
        yield from _proved(text, proofs, "email", _EMAIL, _is_email)
    if not any(digit in text for digit in "0123456789"):
        return
    if "+" in text:
        yield from _proved(text, proofs, "phone", _INTERNATIONAL, _is_phone)
    yield from _proved(text, proofs, "phone", _NORTH_AMERICAN, _is_phone)
    yield from _proved(text, proofs, "credit_card", _CARD, _is_card)
    yield from _ibans(text, proofs)
    if "-" in text:
        yield from _proved(text, proofs, "us_ssn", _SSN, _is_ssn)
        yield from _proved(text, proofs, "br_cpf", _CPF, _is_cpf)
    yield from _proved(text, proofs, "it_codice_fiscale", _CODICE, _is_codice_fiscale)
    if "." in text:
        yield from _proved(text, proofs, "ip_address", _IPV4, _is_ipv4)
    if ":" in text:
        yield from _proved(text, proofs, "ip_address", _IPV6, _is_ipv6)


def _proved(
    text: str, proofs: Proofs, kind: str, pattern: re.Pattern[str], proves: Callable[[re.Match[str]], bool]
) -> Iterator[Span]:
    for match in pattern.finditer(text):
        if not proofs.afford(kind) or proves(match):
            yield *match.span(), kind


def _is_email(match: re.Match[str]) -> bool:
    """An address, and neither a picture for dense screens (`icon@2x.png`) nor a repository (`git@github.com:…`)."""
    return match[1].rpartition(".")[2].lower() not in _PICTURES and not match[0].startswith("git@")


def _is_phone(match: re.Match[str]) -> bool:
    """A number that can have been given to somebody (ITU numbering plans, by way of libphonenumber)."""
    import phonenumbers

    try:
        number = phonenumbers.parse(match[0], None if match[0].startswith("+") else "US")
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(number)


def _is_card(match: re.Match[str]) -> bool:
    """An issuer's prefix with its length, in the groups of printed cards if in any, and Luhn (ISO/IEC 7812)."""
    from stdnum import luhn

    groups = re.split(r"[ -]", match[0])
    digits = "".join(groups)
    if len(groups) > 1 and tuple(len(group) for group in groups) not in _CARD_GROUPS:
        return False
    if len(set(digits)) == 1:
        return False
    return any(len(digits) in lengths and issuer.match(digits) for issuer, lengths in _ISSUERS) and luhn.is_valid(
        digits
    )


def _ibans(text: str, proofs: Proofs) -> Iterator[Span]:
    """ISO 13616: mod 97 over as many characters as the country's accounts have, words behind it left out."""
    from stdnum import iban

    for match in _IBAN.finditer(text):
        if not proofs.afford("iban"):
            yield *match.span(), "iban"
            continue
        places = [place for place in range(*match.span()) if text[place] != " "]
        compact = "".join(text[place] for place in places)
        for length in _IBAN_LENGTHS:
            end = places[length - 1] + 1 if length <= len(compact) else None
            if end is None:
                break
            if match[0][0].islower() and text[end : end + 1].isalnum():  # a hash, say
                continue
            number = compact[:length].upper()
            if _mod_97(number[4:] + number[:4]) == 1 and iban.is_valid(number, check_country=False):
                yield match.start(), end, "iban"
                break


def _mod_97(compact: str) -> int:
    """ISO 7064 MOD 97-10 of digits and capitals, as python-stdnum takes it.

    A hostile text of 64 KiB took 0.175 s with that one, and takes 0.083 s with this.
    """
    return int("".join(map(_IBAN_VALUES.__getitem__, compact))) % 97


def _is_ssn(match: re.Match[str]) -> bool:
    from stdnum.us import ssn

    return bool(ssn.is_valid(match[0]))


def _is_cpf(match: re.Match[str]) -> bool:
    from stdnum.br import cpf

    return bool(cpf.is_valid(match[0]))


def _is_codice_fiscale(match: re.Match[str]) -> bool:
    from stdnum.it import codicefiscale

    return bool(codicefiscale.is_valid(match[0]))


def _is_ipv4(match: re.Match[str]) -> bool:
    """A public address. Four small numbers, or any behind the word version, are taken for a version."""
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return False
    if not address.is_global or max(address.packed) < _HIGH_OCTET:
        return False
    return _VERSION_BEFORE.search(match.string[max(0, match.start() - 12) : match.start()]) is None


def _is_ipv6(match: re.Match[str]) -> bool:
    """A global unicast address (RFC 4291: 2000::/3)."""
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return False
    return address.is_global and int(address) >> 125 == 1
