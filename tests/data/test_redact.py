import base64
import hashlib
import pickle
import random
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindgeex.data.redact import EMAIL, FORMS, SECRET, RedactRules, redact

LETTERS = string.ascii_letters + string.digits


def chance(count: int, alphabet: str = LETTERS, seed: int = 1) -> str:
    """Characters nobody chose; with at least one digit among the first."""
    return "7" + "".join(random.Random(seed).choices(alphabet, k=count - 1))


def pem(kind: str, lines: int = 8, end: str = "\n") -> str:
    body = base64.b64encode(random.Random(2).randbytes(48 * lines)).decode()
    rows = [body[at : at + 64] for at in range(0, len(body), 64)]
    return end.join([f"-----BEGIN {kind}" + "-----", *rows, f"-----END {kind}" + "-----"])


HEAD, TAIL = (f"-----{word} PRIVATE" + " KEY-----" for word in ("BEGIN", "END"))

# Each in two pieces, so that nobody who scans this file takes it for a leak.
PLANTED = {
    "aws_key": "AK" + "IA" + "Q2W4ZXRT5UVB7MKP",
    "aliyun_key": "LT" + "AI" + chance(20),
    "tencent_key": "AK" + "ID" + chance(32),
    "azure_key": chance(86) + "==",
    "google_key": "AI" + "za" + chance(35),
    "google_secret": "GOC" + "SPX-" + chance(28),
    "github_token": "gh" + "p_" + chance(36),
    "github_pat": "github" + "_pat_" + chance(22) + "_" + chance(59),
    "gitlab_token": "gl" + "pat-" + chance(20),
    "slack_token": "xo" + "xb-" + "730191371-" + chance(24),
    "slack_webhook": "T7H2K9QW1/B8" + "J3L5MN2/" + chance(24),
    "npm_token": "np" + "m_" + chance(36),
    "pypi_token": "py" + "pi-Ag" + chance(80),
    "huggingface_token": "h" + "f_" + chance(34),
    "stripe_key": "sk" + "_live_" + chance(24),
    "openai_key": "s" + "k-" + chance(48),
    "anthropic_key": "s" + "k-ant-" + chance(90),
    "sendgrid_key": "S" + "G." + chance(22) + "." + chance(43, seed=2),
    "telegram_token": "729381650" + ":AA" + chance(33),
    "jwt": "ey" + "J" + chance(20) + ".ey" + "J" + chance(40) + "." + chance(43, seed=3),
    "private_key": pem("RSA PRIVATE" + " KEY"),
}
AROUND = {
    "azure_key": 'connect("AccountName=store;AccountKey={};EndpointSuffix=core.windows.net")\n',
    "slack_webhook": "curl https://hooks.slack.com/services/{}\n",
}


def test_every_form_is_planted():
    assert set(FORMS) | {"private_key"} == set(PLANTED)


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("place", ['client.connect("{}")\n', "# {}\n", "export VALUE={}\n", "<td>{}</td>"])
def test_a_planted_secret_is_replaced_and_nothing_else(kind, place):
    line = AROUND.get(kind, place)
    text = "before\n" + line.format(PLANTED[kind]) + "after\n"
    assert redact(text) == ("before\n" + line.format(SECRET.format(kind)) + "after\n", {kind: 1})
    assert redact(text, RedactRules(secrets=False)) == (text, {})


@pytest.mark.parametrize("prefix", ["ghp", "gho", "ghu", "ghs", "ghr"])
def test_all_kinds_of_github_tokens(prefix):
    assert redact(f"{prefix}_{chance(36)}")[1] == {"github_token": 1}


@pytest.mark.parametrize(
    "kind", ["PRIVATE", "EC PRIVATE", "OPENSSH PRIVATE", "ENCRYPTED PRIVATE", "DSA PRIVATE", "RSA PRIVATE"]
)
@pytest.mark.parametrize("end", ["\n", "\\n", '\\n"\n    "', "\r\n", "\n# "])
def test_a_private_key_goes_as_a_whole_block(kind, end):
    text = 'KEY = "' + pem(f"{kind} KEY", end=end) + '"\nprint(KEY)\n'
    assert redact(text) == ('KEY = "<SECRET:private_key>"\nprint(KEY)\n', {"private_key": 1})


def test_two_private_keys_are_two():
    text = pem("PRIVATE" + " KEY") + "\nbetween\n" + pem("PRIVATE" + " KEY", lines=5)
    assert redact(text) == ("<SECRET:private_key>\nbetween\n<SECRET:private_key>", {"private_key": 2})


@pytest.mark.parametrize(
    "text",
    [
        pem("CERTIFICATE"),
        pem("PUBLIC" + " KEY"),
        f'BEGIN = "{HEAD}"\ndef read(text):\n    return text.index(BEGIN)\n' + "x = 1\n" * 20
        + f'END = "{TAIL}"\n',
        f"{HEAD}\nyour key comes here\n{TAIL}",
    ],
)  # fmt: skip
def test_certificates_public_keys_and_readers_of_keys_stay(text):
    assert redact(text) == (text, {})


@pytest.mark.parametrize(
    "line",
    [
        'password = "{}"',
        "DB_PASSWORD = '{}'",
        'api_key: "{}"',
        'apiKey: "{}",',
        '"client_secret": "{}",',
        'os.environ["API_TOKEN"] = "{}"',
        "define('AUTH_KEY', '{}');",
        'String secretKey = "{}";',
        'const token: string = "{}"',
        'token := "{}"',
        ":access_token => '{}'",
        'setPassword("{}")',
        'if token == "{}":',
        "let private_key = `{}`",
        'password=b"{}"',
    ],
)
@pytest.mark.parametrize("value", ["q7Zp2mX9vK4tB8wR", "5f8d3b2e9a7c4061", "Xk3#pQ9!vT2@mN7$", chance(40)])
def test_a_random_literal_given_to_a_secret_name_is_replaced(line, value):
    assert redact(line.format(value)) == (line.format("<SECRET:generic_secret>"), {"generic_secret": 1})


UUID = "3f2b8c1d-9e4a-4f6b-8a7d-2c5e1f0b9d83"
SHA1 = hashlib.sha1(b"x").hexdigest()
SHA256 = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        f'request_id = "{UUID}"', f'commit = "{SHA1}"', f'sha256 = "{SHA256}"', f"sha256:{SHA256}",
        f'"integrity": "sha512-{base64.b64encode(hashlib.sha512(b"x").digest()).decode()}"',
        f'<img src="data:image/png;base64,{chance(400)}">', f'public_key = "{chance(40)}"',
        f'"publicKeyToken": "{chance(16)}"', f'next_token = "{chance(30)}"',
        'api_key = "your-api-key-here-1"', 'password = "changeme-1234567"', 'secret = "xxxxxxxxxxxxxxxx1"',
        'token = "<your token here>"', 'password = "correct horse battery 9"', 'password = "hunter2"',
        'token = "test-token-0123456789"', 'token_url = "https://auth.acme.io/oauth2/token"',
        'secret = os.environ["SECRET_2"]', 'type = "V1SecretVolumeSource"', "'secret': 'V1SecretVolumeSource',",
        'password = "user_password_field_2"', 'key = "org.acme.security.oauth2.key"',
        'pad_token = "<|extratoken_10|>"',
        "AK" + "IAIOSFODNN7EXAMPLE", "gh" + "p_" + "x" * 36, "A" + "KIA" + "A" * 16, "desk-" + "a" * 48,
        "https://user:password@host.io/", "http://user:pass@example.com/", "ftp://root:root@10.0.0.1",
        "postgres://{user}:{password}@{host}", "https://$USER:$PASS@host.io", "http://host.io:8080/@scope/name",
        "http://%s:%s@%s", "redis://:@localhost",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_secret_stays(text):
    assert redact(text) == (text, {})


def test_of_a_url_only_the_password_goes():
    text = 'engine("postgresql://app:' + "gahW7aXu" + '@db.acme.io:5432/main")'
    assert redact(text) == (
        'engine("postgresql://app:<SECRET:password_in_url>@db.acme.io:5432/main")',
        {"password_in_url": 1},
    )


@pytest.mark.parametrize(
    "address",
    [
        "joe.doe@acme.io", "JOE@ACME.COM", "joe+lists@mail.acme.co.uk", "joe_doe-2@uni-bonn.de", "a@b.cn",
        "zhang.wei@163.com", "12345678@qq.com", "o%foo@acme.org",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["# Author: Joe Doe <{}>\n", '"{}"', "{}", "mailto:{}?subject=x", "({}).", "{}, {}"])
def test_an_address_is_replaced(address, place):
    times = place.count("{}")
    assert redact(place.format(address, address)) == (place.format(EMAIL, EMAIL), {"email": times})
    assert redact(place.format(address, address), RedactRules(emails=False))[1] == {}


@pytest.mark.parametrize(
    "text",
    [
        "joe@example.com", "joe@mail.example.org", "noreply@acme.io", "no-reply@acme.io",
        "joe@users.noreply.github.com",
        "git@github.com:joe/code.git", "ssh://git@github.com/joe/code", "git clone joe@host.acme.io:code.git",
        "https://joe@host.acme.io/", "y = x@y.T", "y = x@self.weights", "x@y.transpose(0, 1)", "w@x.to(device)",
        "@app.route('/')", "@pytest.fixture", "@media screen", "@version 1.2.3", "lodash@4.17.21",
        "npm i @types/node@18",
        "image@2x.png", "user@1000.service", "return@forEach", "this@Activity.id", "aes256-gcm@openssh.com",
        "{@link java.util.List}", '@"a string.de"', "joe@localhost", "@joe.de", "a @ b.de", "joe@.de", "$name@$host.de",
        "joe@acme.python", "x@y.Io",
    ],
)  # fmt: skip
def test_other_uses_of_the_sign_stay(text):
    assert redact(text) == (text, {})


def test_counts_are_by_kind_in_a_fixed_order():
    text = f'joe@acme.io {PLANTED["npm_token"]} jane@acme.io "{PLANTED["aws_key"]}"'
    assert list(redact(text)[1].items()) == [("aws_key", 1), ("email", 2), ("npm_token", 1)]


def test_a_password_that_looks_like_an_address_is_a_password():
    assert redact("http://joe:" + "gahW7aXu" + "@acme.io/")[0] == "http://joe:<SECRET:password_in_url>@acme.io/"


def test_a_known_form_wins_over_the_name_it_is_given_to():
    assert redact(f'TOKEN = "{PLANTED["huggingface_token"]}"')[1] == {"huggingface_token": 1}


def test_a_clean_text_is_the_same_object():
    text = "def f(x):\n    return x\n" * 50
    assert redact(text)[0] is text


def test_rules_travel_to_workers():
    assert pickle.loads(pickle.dumps(RedactRules(emails=False))) == RedactRules(emails=False)


PIECES = [
    *PLANTED.values(), "joe@acme.io", "@", ".", "acme.com", "://", "joe:", "gahW7aXu@", '"', "'", "password", " = ",
    "=", "<", ">", EMAIL, SECRET.format("jwt"), "\n", " ", chance(20), "-", "_", "变", "token", ":",
    "AccountKey=", "x", "https://hooks.slack.com/services/",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12))
@settings(max_examples=60, deadline=None)
def test_what_comes_out_is_clean(pieces):
    text, counts = redact("".join(pieces))
    assert redact(text) == (text, {})
    assert sum(counts.values()) <= text.count(EMAIL) + text.count("<SECRET:")


@given(st.text(alphabet="abz01 .,()[]{}\n#=+*/变é", max_size=300))
@settings(max_examples=60, deadline=None)
def test_a_text_without_any_mark_is_untouched(text):
    assert redact(text) == (text, {})


def test_the_same_again_and_again_takes_no_time():
    pieces = ["@a.", "a@", "@", "://", "://a:", "://a:b@", "eyJ", "eyJ-", ".eyJ", HEAD, "sk-",
              "sk-ant-", "password", 'password = "', '"', "'a1", "A" * 63 + ".", "xoxb-", "-",
              "a.b@", "%", "pypi-Ag-", "SG."]  # fmt: skip
    started = time.process_time()
    for piece in pieces:
        redact("PRIVATE KEY token ://@ " + piece * (100_000 // len(piece)))
    assert time.process_time() - started < 5
