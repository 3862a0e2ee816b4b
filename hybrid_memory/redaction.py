"""Write path, where one asks for it: secrets out of a text before it is stored or encoded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

_WIDTH = 40  # characters before a match that may say what it is


class Secret(NamedTuple):
    """A kind of secret: what it is called, how it is written, and what tells it from others.

    Of a pattern with a group `secret` only that is taken out, else the whole match. What matches
    `unless`, right before it, says that it is something else.
    """

    name: str
    pattern: re.Pattern[str]
    is_one: Callable[[str], bool] = lambda found: True
    unless: re.Pattern[str] | None = None


def redact_secrets(text: str) -> str:
    """Return a text with keys, tokens and card and account numbers as `[redacted: aws key]`.

    Known are the forms in `SECRETS`: what its issuer marks by a prefix, or a checksum confirms. A
    password that could be any word is not seen. A second time changes nothing.
    """
    for secret in SECRETS:
        text = secret.pattern.sub(partial(_replaced, secret), text)
    return text


def redact_json(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value with each string in it redacted; keys stay as they are."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_json(part, redact) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [redact_json(part, redact) for part in value]
    return value


def _replaced(secret: Secret, found: re.Match[str]) -> str:
    name = "secret" if "secret" in found.re.groupindex else 0
    if not secret.is_one(found[name]):
        return found[0]
    before = found.string[max(0, found.start() - _WIDTH) : found.start()]
    if secret.unless is not None and secret.unless.search(before):
        return found[0]
    start, end = found.span(name)
    before, after = found[0][: start - found.start()], found[0][end - found.start() :]
    return f"{before}[redacted: {secret.name}]{after}"


def _is_mixed(found: str) -> bool:
    """Tell whether there are digits and letters of both cases, as in random text."""
    return bool(re.search(r"\d", found) and re.search("[a-z]", found) and re.search("[A-Z]", found))


def _has_digit(found: str) -> bool:
    return bool(re.search(r"\d", found))


def _has_cases(found: str) -> bool:
    return found[3:].lower() != found[3:] != found[3:].upper()


def _is_card(found: str) -> bool:
    """Tell whether digits are a card number: an issuer's prefix and length, and Luhn's checksum."""
    digits = re.sub(r"\D", "", found)
    if len(set(digits)) < 3 or not _ISSUED.fullmatch(digits):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


# Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay.
_ISSUED = re.compile(
    r"4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|3(?:0[0-5]\d|[689]\d\d)\d{10}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|62\d{14}"
)


def _is_iban(found: str) -> bool:
    """Tell whether it is an IBAN: the length of its country, and ISO 7064's checksum mod 97."""
    compact = re.sub(r"\s", "", found)
    if len(compact) != IBAN_LENGTHS.get(compact[:2], 0):
        return False
    return int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1


# Characters of an IBAN by country, from the registry of ISO 13616.
_LENGTHS = """
AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22
DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28
IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27
MD:24 ME:22 MK:19 MR:27 MT:31 MU:30 NL:18 NO:15 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 SA:24
SC:31 SE:24 SI:19 SK:24 SM:27 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20
"""
IBAN_LENGTHS = {entry[:2]: int(entry[3:]) for entry in _LENGTHS.split()}

_START, _END = r"(?<![A-Za-z0-9_\-])", r"(?![A-Za-z0-9_\-])"


def _token(name: str, pattern: str, is_one: Callable[[str], bool] = _has_digit) -> Secret:
    return Secret(name, re.compile(f"{_START}(?:{pattern}){_END}"), is_one)


# In this order: what stands first is taken out first.
SECRETS: tuple[Secret, ...] = (
    Secret(
        "private key",
        re.compile(
            r"-----BEGIN (?P<kind>(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?)-----"
            r"(?:.{1,10000}?-----END (?P=kind)-----|(?:(?:\s|\\[rn])+[A-Za-z0-9+/=]{40,})+)",
            re.DOTALL,
        ),
    ),
    _token("anthropic key", r"sk-ant-[A-Za-z0-9_\-]{32,200}"),
    _token("openrouter key", r"sk-or-v1-[0-9a-f]{64}"),
    _token("openai key", r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_\-]{40,200}", _is_mixed),
    _token("openai key", r"sk-[A-Za-z0-9]{40,64}", _is_mixed),
    _token("aws key", r"(?:AKIA|ASIA)[A-Z2-7]{16}", lambda found: len(set(found)) > 8),
    Secret(
        "aws secret",
        re.compile(
            r"(?i:aws_?secret_?(?:access_?)?key|SecretAccessKey)['\"]?\s{0,4}[:=]\s{0,4}['\"]?"
            r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
        ),
    ),
    _token("github token", r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255}"),
    _token("gitlab token", r"glpat-[A-Za-z0-9_\-]{20,64}", lambda found: len(set(found)) > 12),
    _token("slack token", r"xox[abeoprs]-[A-Za-z0-9\-]{20,250}|xapp-\d-[A-Za-z0-9\-]{40,250}"),
    Secret(
        "slack webhook",
        re.compile(
            r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_\-]{30,100}"
        ),
    ),
    _token("google key", r"AIza[A-Za-z0-9_\-]{35}"),
    _token("google secret", r"GOCSPX-[A-Za-z0-9_\-]{28}"),
    _token("google token", r"ya29\.[A-Za-z0-9_\-]{40,1000}"),
    _token("stripe key", r"[sr]k_(?:live|test)_[A-Za-z0-9]{20,247}|whsec_[A-Za-z0-9+/]{32,64}"),
    _token("hugging face token", r"hf_[A-Za-z0-9]{34}", _has_cases),
    _token("npm token", r"npm_[A-Za-z0-9]{36}"),
    _token("pypi token", r"pypi-AgE[A-Za-z0-9_\-]{50,500}"),
    _token("sendgrid key", r"SG\.[A-Za-z0-9_\-]{22}\.[A-Za-z0-9_\-]{43}"),
    _token("telegram token", r"\d{8,10}:AA[A-Za-z0-9_\-]{33}", _is_mixed),
    _token(
        "jwt", r"eyJ[A-Za-z0-9_\-]{8,4096}\.eyJ[A-Za-z0-9_\-]{8,16384}\.[A-Za-z0-9_\-]{16,4096}"
    ),
    Secret(
        "password in address",
        re.compile(r"\b[a-z][a-z0-9+.\-]{1,20}://[^\s:/@]{1,100}:(?P<secret>[^\s/@\[]{3,200})@"),
    ),
    # Four groups of four, as on the card, or American Express' and Diners' own, or all in one.
    Secret(
        "card number",
        re.compile(
            r"(?<![\w.+#/\-])(?:\d{4}([ \-])\d{4}\1\d{4}\1\d{4}"
            r"|\d{4}([ \-])\d{6}\2\d{4,5}|\d{14,16})(?![\w\-]|[.,]\d)"
        ),
        _is_card,
        re.compile(
            r"\b(?:order|invoice|tracking|track|parcel|shipment|ticket|case|booking|reference|ref"
            r"|serial|imei|isbn|ean|sku|part|id|timestamp|customer|contract)\b\D{0,16}$",
            re.IGNORECASE,
        ),
    ),
    Secret(
        "iban",
        re.compile(
            r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)"
            r"(?![A-Za-z0-9])"
        ),
        _is_iban,
    ),
)
