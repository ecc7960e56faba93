"""Secrets and e-mail addresses become placeholders that fit in strings and comments: `<SECRET:kind>` and `<EMAIL>`.

A secret is found by the form its issuer gave it (`FORMS`), as the password of a URL, as a PEM block with a private
key in it, or as a random-looking string literal that is given to a name such as `password` or `api_key`. What is
plainly made up for a manual or a test (EXAMPLE, your-, xxxx, 123456) stays.

Covers: the kinds below, in source text of any language; the text that comes out is found clean when asked again.
Does not cover: passwords that are words, secrets without quotes, in several pieces or encoded; names, telephone
numbers, IP addresses (versions look the same), addresses written with `at` and `dot`.
"""

import collections
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

EMAIL = "<EMAIL>"
SECRET = "<SECRET:{}>"


@dataclass(frozen=True)
class RedactRules:
    """What is replaced."""

    secrets: bool = True
    """Replace keys, tokens and passwords."""

    emails: bool = True
    """Replace e-mail addresses."""


DEFAULT_RULES = RedactRules()
Span = tuple[int, int, str]
"""Start, end and kind of what is to be replaced."""

FORMS = {
    "aws_key": ("A[KS]IA", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    "aliyun_key": ("LTAI", r"\bLTAI[A-Za-z0-9]{16,20}\b"),
    "tencent_key": ("AKID", r"\bAKID[A-Za-z0-9]{32}\b"),
    "azure_key": ("AccountKey=", r"(?<=AccountKey=)[A-Za-z0-9+/]{86}=="),
    "google_key": ("AIza", r"\bAIza[\w-]{35}(?![\w-])"),
    "google_secret": ("GOCSPX-", r"\bGOCSPX-[\w-]{28}(?![\w-])"),
    "github_token": ("gh[opusr]_", r"\bgh[opusr]_[A-Za-z0-9]{36}\b"),
    "github_pat": ("github_pat_", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b"),
    "gitlab_token": ("glpat-", r"\bglpat-[\w-]{20}(?![\w-])"),
    "slack_token": ("xox[abeoprs]-", r"\bxox[abeoprs]-[\w-]{10,250}"),
    "slack_webhook": ("hooks.slack.com/", r"(?<=hooks\.slack\.com/services/)T\w+/B\w+/\w+"),
    "npm_token": ("npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    "pypi_token": ("pypi-Ag", r"\bpypi-Ag[\w-]{50,500}"),
    "huggingface_token": ("hf_", r"\bhf_[A-Za-z0-9]{34}\b"),
    "stripe_key": ("k_(?:live|test)_", r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{24,200}\b"),
    "openai_key": ("sk-", r"\bsk-(?:[\w-]{20,200}T3BlbkFJ[\w-]{20,200}|[A-Za-z0-9]{48}\b)"),
    "anthropic_key": ("sk-ant-", r"\bsk-ant-[\w-]{80,200}"),
    "sendgrid_key": (r"SG\.", r"\bSG\.[\w-]{22}\.[\w-]{43}(?![\w-])"),
    "telegram_token": (":AA", r"\b\d{8,10}:AA[\w-]{33}(?![\w-])"),
    "jwt": ("eyJ", r"(?<![\w-])eyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}\.[\w-]{10,2000}"),
}
"""Kind -> what is in every such secret and quickly found, and its form."""

_FORMS = tuple((kind, re.compile(hint).search, re.compile(form, re.ASCII)) for kind, (hint, form) in FORMS.items())

_MADE_UP = re.compile(
    r"example|sample|dummy|fake|placeholder|changeme|change-me|your[-_]?|redacted|insert|replace|x{4}|\*{3}|\.{3}"
    r"|(?:test|my)[-_]|0{6}|1{6}|12345|abcdef|98765",
    re.IGNORECASE,
)


def redact(text: str, rules: RedactRules = DEFAULT_RULES) -> tuple[str, dict[str, int]]:
    """Replaces secrets and e-mail addresses.

    Returns:
        The text, and how many of each kind were replaced, kinds sorted; empty where nothing was.
    """
    counts: collections.Counter[str] = collections.Counter()
    while spans := _without_overlaps(_spans(text, rules)):  # again, until nothing is found in what was written
        counts.update(kind for _, _, kind in spans)
        text = "".join(_pieces(text, spans))
    return text, dict(sorted(counts.items()))


def _spans(text: str, rules: RedactRules) -> list[Span]:
    spans: list[Span] = []
    if rules.secrets:
        for kind, hint, form in _FORMS:
            if hint(text):
                spans += ((*found.span(), kind) for found in form.finditer(text) if _is_random(found[0]))
        if "PRIVATE KEY" in text:
            spans += _private_keys(text)
        if "://" in text:
            spans += _passwords_in_urls(text)
        if any(word in text for word in _NAME_PIECES):
            spans += _assigned(text)
    if rules.emails and "@" in text:
        spans += _emails(text)
    return spans


def _without_overlaps(spans: list[Span]) -> list[Span]:
    """The spans in order; of those that overlap, the first, and a known form before what begins with it."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span[0], span[2] == "email", span[2] == "generic_secret", -span[1])):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def _pieces(text: str, spans: list[Span]) -> Iterator[str]:
    at = 0
    for start, end, kind in spans:
        yield text[at:start]
        yield EMAIL if kind == "email" else SECRET.format(kind)
        at = end
    yield text[at:]


def _entropy_bits(value: str) -> float:
    """Shannon entropy of a character, from the value's own counts."""
    shares = [count / len(value) for count in collections.Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)


def _is_random(value: str) -> bool:
    return _entropy_bits(value) > 3.0 and not _MADE_UP.search(value)


_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    r"((?:[^-]|-(?!----)){64,16000}+)-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
)
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/=]{24,}")
MIN_BASE64_SHARE = 0.6
"""Of what stands between BEGIN and END: code that searches for these words has less."""


def _private_keys(text: str) -> Iterator[Span]:
    for found in _PEM.finditer(text):
        if sum(map(len, _BASE64_RUN.findall(found[1]))) > MIN_BASE64_SHARE * len(found[1]):
            yield (*found.span(), "private_key")


_URL = re.compile(
    r"://([^\s:/@'\"<>`\\]{1,64}):(?!\1@)([^\s:/@'\"<>`(){}$\\]{3,100})@(?!example\.)[A-Za-z0-9\[]", re.ASCII
)
_COMMON_PASSWORD = re.compile(
    r"(?:my|the|db|user)?[-_]?(?:pass|passwd|password|pwd|pw|secret|token|key|foo|bar|baz|test|guest|root|admin|user(?:name)?)\d*"
    r"|%\w.*|\W+|p[a@]ss(?:w[o0]rd)?\d*|\w+_(?:pass|password|token|pwd)",
    re.IGNORECASE,
)


def _passwords_in_urls(text: str) -> Iterator[Span]:
    for found in _URL.finditer(text):
        if not _COMMON_PASSWORD.fullmatch(found[2]) and not _MADE_UP.search(found[2]):
            yield (*found.span(2), "password_in_url")


_NAME_PIECES = ("assw", "ASSW", "ecret", "ECRET", "oken", "OKEN", "key", "Key", "KEY", "redential", "REDENTIAL")
_LITERAL = re.compile(r"([\"'`])([\w+/=.~!@#$%^&*?-]{16,256})\1", re.ASCII)
_NAME = re.compile(
    r"(?:passw(?:or)?d|secret|token|(?:api|access|secret|private|auth|account|encryption|signing|master)[-_]?key|credential)"
    r"(?:[\"'\]]{0,2}\s*(?::\s*[\w.\[\]<>| ]{1,24}\s*)?(?::|:=|={1,3}|=>|<-)|[\"']\s*,|\()\s*[bruf@]{0,2}$",
    re.IGNORECASE | re.ASCII,
)
_OTHER_NAME = re.compile(r"public|next|page|continuation|sync", re.IGNORECASE)
NAME_CHARS = 80
"""How far before a literal its name is looked for."""

_SWITCH = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")
MIN_SWITCHES = 0.2
"""From one class of characters (lower, upper, digit) to another, a character; words joined by signs have fewer."""

_CAMEL_CASE = re.compile(r"(?:[A-Z]?\d{1,2}|[a-z]+)?(?:\d{0,2}[A-Z][a-z]+)+\d{0,3}")


def _assigned(text: str) -> Iterator[Span]:
    for found in _LITERAL.finditer(text):
        value = found[2]
        if not any(map(str.isdigit, value)) or _CAMEL_CASE.fullmatch(value):
            continue
        before = text[max(0, found.start() - NAME_CHARS) : found.start()].rpartition("\n")[2]
        name = _NAME.search(before)
        if not name or _OTHER_NAME.search(before, max(0, name.start() - 16), name.start()):
            continue
        if len(_SWITCH.findall(value)) >= MIN_SWITCHES * len(value) and _is_random(value):
            yield (*found.span(2), "generic_secret")


_DOMAIN = re.compile(
    r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,5}([A-Za-z]{2,6}))(?![\w(\[@]|-\w|\.\w|:[\w/~])", re.ASCII
)
_LOCAL_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"
MAX_LOCAL_CHARS = 64
_TOP_DOMAINS = """
    com org net edu gov mil int info biz io dev app xyz online cloud tech site email aero museum coop
    ac ad ae af ag ai al am ao ar at au az ba bd be bg bh bi bo br bs bt bw by bz ca cc cd cf cg ch ci cl cm cn co cr
    cu cv cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fm fo fr ga gb ge gg gh gi gl gm gn gr gt gy hk hn hr ht
    hu id ie il im in iq ir is it je jm jo jp ke kg kh ki km kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me
    mg mk ml mm mn mo mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pr ps
    pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr st su sv sy sz tc td tg th tj tk tl tm tn to
    tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu ws ye za zm zw
"""
"""What an address can end in: `x@y.values` is a product of matrices, `user@1000.service` a unit."""

_TOP = frozenset(_TOP_DOMAINS.split())

_NOT_MAIL = re.compile(
    r"(?:no-?reply|do-?not-?reply|git|hg|svn|this|super|self|return)@|@(?:[\w-]+\.)*(?:example\.\w+|users\.noreply\.github\.com"
    r"|openssh\.com|libssh\.org|foo\.com|bar\.com|foo\.org|domain\.com|localhost\.\w+)$",
    re.IGNORECASE,
)


_NO_MAIL_BEFORE = re.compile(r"[/$@]$|://[^\s/\"'<>]*$")
"""The user of a URL, a variable, what follows another sign."""


def _emails(text: str) -> Iterator[Span]:
    for found in _DOMAIN.finditer(text):
        if (top := found[2]).lower() not in _TOP or not (top.islower() or top.isupper()):
            continue
        at = found.start()
        before = text[max(0, at - MAX_LOCAL_CHARS) : at]
        local = before[len(before.rstrip(_LOCAL_CHARS)) :].lstrip("._%+-")
        start = at - len(local)
        if not local or local.endswith(".") or _NO_MAIL_BEFORE.search(text, max(0, start - MAX_LOCAL_CHARS), start):
            continue
        if not _NOT_MAIL.match(address := local + found[0]) and not _NOT_MAIL.search(address):
            yield (start, found.end(), "email")
