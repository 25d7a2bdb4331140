"""Named credentials: kept from others' eyes, strict, and only for the hosts that they name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace import credentials, wiring
from headrace.credentials import load, parse
from headrace.errors import InvalidRequest
from headrace.settings import Settings

CANARY = "c4nary-in-the-mine"
FOLDER = Path("/etc/headrace")
WHOLE = """
[archive]
hosts = ["archive.example.org", "*.example.net"]
user = "ada"
password = "love"
headers = { "x-api-key" = "key" }
cookies = "cookies.txt"
proxy = "http://u:p@proxy:3128"
certificate = "me.pem"
key = "/keys/me.key"
ca = "ca.pem"
plain_http = true
[token]
hosts = ["h"]
bearer = "abc"
"""


def written(folder, text, mode=0o600):
    path = folder / "credentials.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_everything_that_a_section_can_say():
    """Paths are relative to the file."""
    found = parse(WHOLE, FOLDER)
    archive, token = found["archive"], found["token"]
    first = "http://a.example.net/x"
    assert archive.shown.headers_to(first, first) == {"Authorization": "Basic YWRhOmxvdmU=", "X-Api-Key": "key"}
    route = archive.shown.route_to(first, first)
    assert (route.proxy, route.certificate) == ("http://u:p@proxy:3128", FOLDER / "me.pem")
    assert (route.key, route.ca) == (Path("/keys/me.key"), FOLDER / "ca.pem")
    assert archive.cookies == FOLDER / "cookies.txt"
    assert token.access("https://h/").bearer == "abc"


@pytest.mark.parametrize("url", ["https://archive.example.org/x", "https://b.example.net:8443/x"])
def test_it_is_for_the_hosts_that_it_names(url):
    """Itself, or below it, on any port."""
    assert parse('[a]\nhosts = ["archive.example.org", "*.example.net"]', FOLDER)["a"].access(url)


@pytest.mark.parametrize("url", ["https://example.net/", "https://evil.org/", "https://archive.example.org.evil.org/"])
def test_another_host_never_gets_it(url):
    """A clear error, before anything is asked for."""
    with pytest.raises(InvalidRequest, match="is not for"):
        parse(WHOLE, FOLDER)["archive"].access(url)


def test_plain_http_must_be_allowed():
    """Except to this machine."""
    (found,) = parse('[a]\nhosts = ["h", "127.0.0.1", "::1"]\nbearer = "x"', FOLDER).values()
    with pytest.raises(InvalidRequest, match="plain http"):
        found.access("http://h/")
    assert found.access("http://127.0.0.1:8/").bearer == found.access("http://[::1]/").bearer == "x"


@pytest.mark.parametrize(
    "section",
    [
        "",
        "hosts = []",
        'hosts = "h"',
        'hosts = ["*"]',
        'hosts = ["h:80"]',
        'hosts = ["https://h"]',
        'hosts = ["h"]\npasword = "CANARY"',
        'hosts = ["h"]\nuser = "CANARY"',
        'hosts = ["h"]\npassword = "CANARY"',
        'hosts = ["h"]\nuser = "CANARY:a"\npassword = "x"',
        'hosts = ["h"]\nuser = "a"\npassword = 7',
        'hosts = ["h"]\nkey = "CANARY"',
        'hosts = ["h"]\nbearer = "a CANARY"',
        'hosts = ["h"]\nbearer = "CANARY"\nuser = "a"\npassword = "b"',
        'hosts = ["h"]\nbearer = "CANARY"\nheaders = { "Authorization" = "CANARY" }',
        'hosts = ["h"]\nheaders = { "Host" = "CANARY" }',
        'hosts = ["h"]\nheaders = { "X" = "CANARY\\n" }',
        'hosts = ["h"]\nheaders = { "X" = 7 }',
        'hosts = ["h"]\nheaders = ["X: CANARY"]',
        'hosts = ["h"]\nproxy = "socks5://u:CANARY@p:1"',
        'hosts = ["h"]\nplain_http = "CANARY"',
    ],
)
def test_what_a_section_can_not_say(section):
    """The section is named, and no value quoted."""
    with pytest.raises(InvalidRequest, match=r"\[archive\]") as caught:
        parse("[archive]\n" + section.replace("CANARY", CANARY), FOLDER)
    assert CANARY not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("text", [f'[a]\nbearer = "{CANARY}', f"[a]\n{CANARY}", f'[a]\nx = 1\nx = "{CANARY}"', "[a"])
def test_what_is_no_toml(text):
    """The line at most is named."""
    with pytest.raises(InvalidRequest, match="TOML") as caught:
        parse(text, FOLDER)
    assert CANARY not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("text", ['a = "b"', '["a b"]', "[a.b]\nhosts = ['h']"])
def test_what_is_no_section(text):
    """Or no name that can be ordered by."""
    with pytest.raises(InvalidRequest):
        parse(text, FOLDER)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    """With the command that helps."""
    with pytest.raises(InvalidRequest) as caught:
        load(written(tmp_path, WHOLE, mode))
    assert "chmod 600" in caught.value.hint


def test_a_folder_is_no_file_of_credentials(tmp_path):
    """Nor is a pipe, which would be waited for."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(InvalidRequest):
            load(tmp_path / name)


def test_a_house_gives_access_by_name(tmp_path):
    """By the file of the settings, or the one in the home; cookies are read too."""
    (tmp_path / "cookies.txt").write_text("h\tFALSE\t/\tFALSE\t0\ta\t1\n")
    written(tmp_path, '[a]\nhosts = ["h"]\ncookies = "cookies.txt"\n')
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", '[b]\nhosts = ["h"]\nbearer = "x"\n')
    database = "postgresql+psycopg2://u:p@127.0.0.1:9/x"
    for named, name in ((None, "a"), (other, "b")):
        house = wiring.build(Settings(home=tmp_path, credentials=named, database_url=database))
        found = house.access(name, "https://h/x")
        assert found.headers_to("https://h/x", "https://h/x") == (
            {"Cookie": "a=1"} if name == "a" else {"Authorization": "Bearer x"}
        )
        with pytest.raises(InvalidRequest, match="no credential"):
            house.access("c", "https://h/x")


def test_without_a_file_there_are_no_credentials(tmp_path):
    """And asking for one says where they would be."""
    assert load(tmp_path / "credentials.toml") == {}
    with pytest.raises(InvalidRequest) as caught:
        credentials.find(tmp_path / "credentials.toml", "a")
    assert "credentials.toml" in caught.value.hint


def test_a_proxy_is_for_the_hosts_that_it_was_named_with():
    """A redirect or a mirror elsewhere goes without it: what a proxy can reach is not for everybody."""
    archive = parse(WHOLE, FOLDER)["archive"].shown
    first = "https://archive.example.org/x"
    assert archive.route_to(first, first).proxy is not None
    assert archive.route_to("http://intranet.corp/", first).proxy is None
    assert archive.elsewhere().route_to("http://intranet.corp/", "http://intranet.corp/").proxy is None
