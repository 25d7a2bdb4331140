"""Access: who may read gets in, and nobody else learns what was shown."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.download import Downloader, Guard, Wish, cookies, proxies
from headrace.download import access as accesses
from headrace.download.access import Access, header, login, names_host, token, without_user_info
from headrace.errors import (
    AddressForbidden,
    HeadraceError,
    InvalidRequest,
    SourceError,
    SourceForbidden,
    SourceRefused,
    SourceUnavailable,
)
from tests.authority import Authority
from tests.forward_proxy import proxying
from tests.servers import BODY, LARGE, serving

TYPED = Guard(typed_may_be_private=True)
LOCAL = Guard((ip_network("127.0.0.0/8"),))
CANARY = "c4nary-in-the-mine"


def fetch(url, folder, access, guard=TYPED, **wish):
    with contextlib.closing(Downloader(guard)) as downloader:
        return downloader.fetch(Wish(url, access=access, **wish), folder / "film").path.read_bytes()


def jar(*lines):
    return cookies.parse("\n".join("\t".join(line.split()) for line in lines))


# What is sent to the first origin


@pytest.mark.parametrize(
    ("access", "name", "sent"),
    [
        (Access(user="ada", password="l:ove"), "authorization", "Basic YWRhOmw6b3Zl"),
        (Access(bearer="abc"), "authorization", "Bearer abc"),
        (Access(headers=(("X-Key", "a"), ("X-Key", "b"))), "x-key", "a, b"),
        (Access(headers=(("User-Agent", "mine"),)), "user-agent", "mine"),
        (Access(cookies=jar("127.0.0.1 FALSE / FALSE 0 a 1")), "cookie", "a=1"),
        (
            Access(headers=(("Cookie", "b=2"),), cookies=jar("127.0.0.1 FALSE / FALSE 0 a 1")),
            "cookie",
            "b=2; a=1",
        ),
    ],
    ids=["basic", "bearer", "twice", "user-agent", "cookie", "both cookies"],
)
def test_what_the_server_gets(server, tmp_path, access, name, sent):
    """With every request of a download, over new connections and kept ones."""
    assert fetch(server.url + "/large/good", tmp_path, access) == LARGE
    assert len(server.seen["/large/good"]) > 1
    assert {seen.get(name) for seen in server.seen["/large/good"]} == {sent}


def test_basic_is_utf_8():
    """RFC 7617, section 2.1, with its own example."""
    assert accesses.basic("test", "123£") == "Basic dGVzdDoxMjPCow=="


ALL = Access(
    headers=(("X-Key", CANARY), ("Cookie", f"a={CANARY}")),
    user="ada",
    password=CANARY,
    cookies=jar(f"127.0.0.1 FALSE / FALSE 0 session {CANARY}"),
)


def test_nothing_crosses_to_another_origin(server, tmp_path):
    """Not the login, not the headers; another port is another origin, and cookies know no ports (RFC 6265)."""
    with serving() as other:
        server.redirects["/away"] = other.url.replace("127.0.0.1", "localhost") + "/good"
        assert fetch(server.url + "/away", tmp_path, ALL) == BODY
        assert server.seen["/away"][0]["cookie"] == f"a={CANARY}; session={CANARY}"
        (seen,) = other.seen["/good"]
        assert CANARY not in str(seen)
        assert "authorization" not in seen
        server.redirects["/away"] = other.url + "/good"
        fetch(server.url + "/away", tmp_path, ALL)
        assert other.seen["/good"][1]["cookie"] == f"session={CANARY}"
        assert "authorization" not in other.seen["/good"][1]
        assert "x-key" not in other.seen["/good"][1]


def test_a_redirect_within_the_origin_keeps_the_login(server, tmp_path):
    """It is the same server."""
    assert fetch(server.url + "/redirect", tmp_path, ALL) == BODY
    assert server.seen["/good"][0]["authorization"].startswith("Basic ")


def test_kept_connections_carry_nothing_over(server, tmp_path):
    """One download's login is not sent with the next one's request."""
    with contextlib.closing(Downloader(TYPED)) as downloader:
        downloader.fetch(Wish(server.url + "/good", access=ALL), tmp_path / "a")
        downloader.fetch(Wish(server.url + "/redirect"), tmp_path / "b")
    assert CANARY in str(server.seen["/good"][0])
    assert CANARY not in str([server.seen["/redirect"], server.seen["/good"][1:]])


def test_without_plain_http_nothing_secret_goes_over_it():
    """Except to this machine."""
    access = Access(bearer="x", cookies=jar("example.org TRUE / FALSE 0 a 1"), plain_http=False)
    first = "http://example.org/a"
    assert access.headers_to(first, first) == {}
    assert access.headers_to("https://example.org/a", "https://example.org/a")["Cookie"] == "a=1"
    for here in ("http://127.0.0.1:8/a", "http://[::1]/a", "http://localhost/a"):
        assert access.headers_to(here, here) == {"Authorization": "Bearer x"}


def test_named_hosts_bound_cookies_and_authorities(tmp_path):
    """A jar that knows more hosts than a credential may be used for."""
    access = Access(
        cookies=jar("a.org FALSE / FALSE 0 a 1", "b.org FALSE / FALSE 0 b 2"), hosts=("a.org",), ca=tmp_path
    )
    first = "https://a.org/"
    assert access.headers_to(first, first) == {"Cookie": "a=1"}
    assert access.headers_to("https://b.org/", first) == {}
    assert access.route_to(first, first).ca == tmp_path
    assert access.route_to("https://b.org/", first).ca is None


def test_no_secret_is_in_a_repr():
    """What is logged or raised by accident shows none."""
    access = Access((("X", CANARY),), "ada", CANARY, CANARY, proxies=proxies.always(f"http://u:{CANARY}@proxy:1"))
    assert CANARY not in repr(access)
    assert CANARY not in repr(access.route_to("http://h/", "http://h/"))
    assert CANARY not in repr(Wish("http://h/", access=access))


def test_elsewhere_gets_no_login():
    """A mirror of another origin."""
    elsewhere = Access((("X", "1"),), "u", "p", certificate=Path("c"), proxies=proxies.always("p:1")).elsewhere()
    assert elsewhere.headers_to("http://h/", "http://h/") == {}
    assert elsewhere.route_to("http://h/", "http://h/") == accesses.Route("http://p:1")


# Words of users


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", ": y", "a b: c", "X: ", "X: a\r\nY: b", "X: a\nb", "X: é", "X: a\0b", "X\n: a", "X: \x7f"),
        *("range: bytes=0-", "HOST: h", "Accept-encoding: gzip", "transfer-encoding: chunked", "Connection: close"),
        *("If-Range: x", "Content-Length: 1", "Proxy-Authorization: Basic x", "TE: x"),
    ],
)
def test_what_is_no_header_of_a_user(text):
    """Nothing can begin another line, and the engine's own stay its own."""
    with pytest.raises(InvalidRequest):
        header(text)


def test_a_refused_header_is_not_quoted():
    """Its value may be a secret."""
    with pytest.raises(InvalidRequest) as caught:
        header(f"X-Key: {CANARY}\r\n")
    assert CANARY not in str(caught.value) + caught.value.hint


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_header_is_one_line(name, value):
    """Whatever is taken fits one line of ASCII."""
    with contextlib.suppress(InvalidRequest):
        taken = header(f"{name}: {value}")
        assert all((part.isascii() and part.isprintable()) or "\t" in part for part in taken)
        assert not set("\r\n\0:") & set(taken[0])
        assert not set("\r\n\0") & set(taken[1])


def test_names_have_their_usual_capitals():
    """So the same header twice is one."""
    assert header("x-api-KEY:  a b\t") == ("X-Api-Key", "a b")


@pytest.mark.parametrize(("user", "password"), [("", "x"), ("a:b", "x"), ("a\n", "x"), ("a", "x\0")])
def test_logins_that_basic_can_not_say(user, password):
    """RFC 7617, section 2."""
    with pytest.raises(InvalidRequest):
        login(user, password)


def test_tokens():
    """One word; a line's end behind it is a file's."""
    assert token(" abc.def==\n") == "abc.def=="
    for wrong in ("", "a b", "a\nb", "é"):
        with pytest.raises(InvalidRequest):
            token(wrong)


@pytest.mark.parametrize(
    ("url", "bare", "found"),
    [
        ("https://h/x?y@z", "https://h/x?y@z", None),
        ("https://ada:l%40ve@h:8/x", "https://h:8/x", ("ada", "l@ve")),
        ("https://ada@h/x", "https://h/x", ("ada", "")),
        ("https://a:b@c@[::1]/x", "https://[::1]/x", ("a", "b@c")),
        ("https://@h/x", "https://h/x", None),
    ],
)
def test_user_info_comes_out_of_a_url(url, bare, found):
    """Decoded, and nothing of it stays."""
    assert without_user_info(url) == (bare, found)


@pytest.mark.parametrize(
    ("pattern", "host", "named"),
    [
        ("a.org", "a.org", True),
        ("a.org", "A.ORG.", True),
        ("a.org", "b.a.org", False),
        ("*.a.org", "b.a.org", True),
        ("*.a.org", "c.b.a.org", True),
        ("*.a.org", "a.org", False),
        ("*.a.org", "ba.org", False),
        ("*.a.org", "a.org.evil.net", False),
    ],
)
def test_hosts_that_a_list_names(pattern, host, named):
    """Itself, or below it."""
    assert names_host((pattern,), host) is named


# Cookies


@pytest.mark.parametrize(
    ("line", "url", "sent"),
    [
        ("a.org FALSE / FALSE 0 n v", "http://a.org/x", True),
        ("a.org FALSE / FALSE 0 n v", "http://b.a.org/", False),
        (".a.org TRUE / FALSE 0 n v", "http://a.org/", True),
        (".a.org TRUE / FALSE 0 n v", "http://c.b.A.org/", True),
        (".a.org TRUE / FALSE 0 n v", "http://ba.org/", False),
        (".a.org TRUE / FALSE 0 n v", "http://a.org.evil.net/", False),
        (".0.0.1 TRUE / FALSE 0 n v", "http://127.0.0.1/", False),
        ("a.org FALSE / TRUE 0 n v", "http://a.org/", False),
        ("a.org FALSE / TRUE 0 n v", "https://a.org/", True),
        ("a.org FALSE /x FALSE 0 n v", "http://a.org/x", True),
        ("a.org FALSE /x FALSE 0 n v", "http://a.org/x/y", True),
        ("a.org FALSE /x FALSE 0 n v", "http://a.org/xy", False),
        ("a.org FALSE /x/ FALSE 0 n v", "http://a.org/x", False),
        ("a.org FALSE / FALSE 999 n v", "http://a.org/", False),
        ("a.org FALSE / FALSE 1001 n v", "http://a.org:81", True),
        ("#HttpOnly_a.org FALSE / FALSE 0 n v", "http://a.org/", True),
        ("#a.org FALSE / FALSE 0 n v", "http://a.org/", False),
    ],
)
def test_a_cookie_goes_where_it_belongs(line, url, sent):
    """RFC 6265, sections 5.1.3, 5.1.4 and 5.4; the time is 1000 s after 1970."""
    assert jar(line).header(url, 1000.0) == ("n=v" if sent else None)


def test_longer_paths_come_first_and_the_last_line_counts():
    """RFC 6265, section 5.4; a file that was appended to."""
    found = jar("a.org FALSE / FALSE 0 n 1", "a.org FALSE /x FALSE 0 n 2", "a.org FALSE / FALSE 0 n 3")
    assert found.header("http://a.org/x/y", 0.0) == "n=2; n=3"


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "a.org\tFALSE\t/\tFALSE\t0\tn",
        "a.org\tMAYBE\t/\tFALSE\t0\tn\tV",
        "a.org\tFALSE\tx\tFALSE\t0\tn\tV",
        "a.org\tFALSE\t/\tFALSE\tsoon\tn\tV",
        "a.org\tFALSE\t/\tFALSE\t0\tn\tV;b",
        "\tFALSE\t/\tFALSE\t0\tn\tV",
        "a.org\tFALSE\t/\tFALSE\t0\t\tV",
        "a.org\tFALSE\t/\tFALSE\t0\tn\tVé",
    ],
)
def test_a_bad_line_of_cookies_is_named_by_its_number(line):
    """And not quoted."""
    with pytest.raises(InvalidRequest, match="line 3") as caught:
        cookies.parse(f"# Netscape HTTP Cookie File\n\n{line.replace('V', CANARY)}\n")
    assert CANARY not in str(caught.value)


def test_a_servers_cookies_are_never_kept(server, tmp_path):
    """Those of the user stay what they were."""
    access = Access(cookies=jar("127.0.0.1 FALSE / FALSE 0 mine 1"))
    with contextlib.closing(Downloader(TYPED)) as downloader:
        for name in ("cookie", "good"):
            downloader.fetch(Wish(f"{server.url}/{name}", access=access), tmp_path / name)
    assert server.seen["/good"][0]["cookie"] == "mine=1"


# Proxies


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://h/", None),
        ({"http_proxy": "http://p:1"}, "http://h/", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://h/", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://h/", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://h/", "http://p:1"),
        ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "https://h/", "http://p:1"),
        ({"all_proxy": "p"}, "http://h/", "http://p:1080"),
        ({"ALL_PROXY": "https://p"}, "https://h/", "https://p:443"),
        ({"ALL_PROXY": "http://p:1", "https_proxy": "q:2"}, "https://h/", "http://q:2"),
        ({"ALL_PROXY": "http://p:1", "no_proxy": "*"}, "https://h/", None),
        ({"ALL_PROXY": "http://p:1", "no_proxy": "a.org, h"}, "https://h/", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": ".a.org"}, "https://b.a.org/", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*.a.org"}, "https://a.org/", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "a.org"}, "https://ba.org/", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,::1"}, "https://10.1.2.3/", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8,::1"}, "https://[::1]/", None),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3/", "http://p:1"),
    ],
)
def test_the_environments_proxies(environment, url, proxy):
    """As curl reads them."""
    assert proxies.from_environment(environment).of(url) == proxy


@pytest.mark.parametrize("text", [f"socks5://{CANARY}@p:1", f"http://u:{CANARY}@p:x", f"http://p/{CANARY}", "http://"])
def test_what_is_no_proxy(text):
    """A clear refusal that quotes nothing."""
    with pytest.raises(InvalidRequest) as caught:
        proxies.always(text)
    assert CANARY not in str(caught.value) + caught.value.hint


def through(proxy, login=""):
    return Access(proxies=proxies.always(proxy.url.replace("//", f"//{login}@" if login else "//")))


def test_http_goes_through_a_proxy_in_absolute_form(server, tmp_path):
    """Over connections that are used again, each request with the proxy's login, which the source never sees."""
    with proxying("ada:l@ve") as proxy, contextlib.closing(Downloader(TYPED)) as downloader:
        access = through(proxy, "ada:l%40ve")
        for number in range(3):
            path = downloader.fetch(Wish(server.url + f"/good?{number}", access=access), tmp_path / "film").path
            assert path.read_bytes() == BODY
        assert proxy.asked[0] == f"GET {server.url}/good?0"
        assert len(proxy.asked) == 3
        assert proxy.connections == 1
        assert "proxy-authorization" not in server.seen["/good"][0]


def test_several_connections_go_through_a_proxy(server, tmp_path):
    """Segments too."""
    with proxying() as proxy:
        assert fetch(server.url + "/large/steady", tmp_path, through(proxy)) == LARGE
        assert server.most["/large/steady"] > 1
        assert len(proxy.asked) == len(server.seen["/large/steady"])


@pytest.mark.parametrize("secure_proxy", [False, True])
def test_https_goes_through_a_tunnel(tmp_path, secure_proxy):
    """CONNECT with the login, TLS with the source itself inside; the proxy may speak TLS too."""
    authority = Authority(tmp_path)
    with (
        serving(tls=authority.server()) as secure,
        proxying("ada:love", tls=authority.server() if secure_proxy else None) as proxy,
    ):
        url = f"{'https' if secure_proxy else 'http'}://ada:love@{proxy.address}"
        access = Access(proxies=proxies.always(url), ca=authority.path, bearer=CANARY)
        address = secure.url.replace("http:", "https:")
        assert fetch(address + "/large/good", tmp_path, access) == LARGE
        assert set(proxy.asked) == {f"CONNECT 127.0.0.1:{secure.server_port}"}
        assert CANARY not in str(proxy.headers)
        assert secure.seen["/large/good"][0]["authorization"] == f"Bearer {CANARY}"
        assert "proxy-authorization" not in str(secure.seen)


def test_routes_share_no_connection(server, tmp_path):
    """What was connected directly isn't used for the proxy, nor one proxy's for another."""
    with proxying() as one, proxying() as two, contextlib.closing(Downloader(TYPED)) as downloader:
        for access in (accesses.OPEN, through(one), through(two), accesses.OPEN):
            downloader.fetch(Wish(server.url + "/good", access=access), tmp_path / "film")
        assert (len(one.asked), len(two.asked)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [(407, SourceForbidden, False), (403, SourceForbidden, False), (502, SourceUnavailable, True)],
)
def test_a_proxy_that_refuses_is_our_error(tmp_path, status, error, retryable):
    """For a tunnel and for a plain request."""
    with proxying() as proxy:
        proxy.status = status
        for url in ("https://127.0.0.1:9/x", "http://127.0.0.1:9/x"):
            with pytest.raises(error, match="proxy" if url.startswith("https") else str(status)) as caught:
                fetch(url, tmp_path, through(proxy))
            assert caught.value.retryable is retryable


def test_a_proxy_that_is_not_there_is_named_as_one(tmp_path):
    """Without its login."""
    with pytest.raises(SourceUnavailable, match="proxy") as caught:
        fetch("http://example.org/x", tmp_path, Access(proxies=proxies.always(f"http://u:{CANARY}@127.0.0.1:9")))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/x", "https://169.254.169.254/x", "http://0x7f.1/x", "http://localhost/"]
)
def test_the_guard_holds_before_a_proxy(tmp_path, url):
    """What can be seen to be private isn't asked for, though the proxy itself is on this machine."""
    with proxying() as proxy:
        with pytest.raises(AddressForbidden):
            fetch(url, tmp_path, through(proxy), guard=Guard())
        assert proxy.asked == []


def test_a_name_that_only_the_proxy_knows_is_left_to_it(server, tmp_path):
    """Some networks resolve nothing but their own names."""
    with proxying(names={"films.invalid": "127.0.0.1"}) as proxy:
        url = f"http://films.invalid:{server.server_port}/good"
        assert fetch(url, tmp_path, through(proxy), guard=Guard()) == BODY


def test_a_redirect_to_a_private_address_is_refused_behind_a_proxy_too(server, tmp_path):
    """The first hop was not seen to be private."""
    with proxying(names={"films.invalid": "127.0.0.1"}) as proxy:
        server.redirects["/away"] = server.url + "/good"
        with pytest.raises(AddressForbidden):
            fetch(f"http://films.invalid:{server.server_port}/away", tmp_path, through(proxy))
        assert len(proxy.asked) == 1


# Certificates


def secure(server):
    return server.url.replace("http:", "https:")


def test_a_client_certificate_opens_the_door(tmp_path):
    """With the key beside it, over every connection; without it the server refuses."""
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("me")
    with serving(tls=authority.server(wants_client=True)) as server:
        shown = Access(certificate=certificate, key=key, ca=authority.path)
        assert fetch(secure(server) + "/large/good", tmp_path, shown) == LARGE
        with pytest.raises(SourceForbidden, match="certificate"):
            fetch(secure(server) + "/good", tmp_path, Access(ca=authority.path))


def test_a_client_certificate_is_shown_to_the_first_origin_only(tmp_path):
    """It says who one is."""
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("me")
    asking = authority.server()
    asking.verify_mode = ssl.CERT_OPTIONAL
    asking.load_verify_locations(authority.path)
    with serving(tls=authority.server(wants_client=True)) as first, serving(tls=asking) as second:
        first.redirects["/away"] = secure(second) + "/good"
        shown = Access(certificate=certificate, key=key, ca=authority.path)
        assert fetch(secure(first) + "/away", tmp_path, shown) == BODY
        assert first.certificates == [True]
        assert second.certificates == [False]


def test_a_certificate_that_was_renewed_is_read_anew(tmp_path):
    """In its place, as renewals do it, while the process goes on."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    certificate, key = other.certificate("me")
    shown = Access(certificate=certificate, key=key, ca=authority.path)
    downloader = Downloader(TYPED)
    with serving(tls=authority.server(wants_client=True)) as server, contextlib.closing(downloader):
        with pytest.raises(HeadraceError):
            downloader.fetch(Wish(secure(server) + "/good", access=shown), tmp_path / "film")
        assert authority.certificate("me") == (certificate, key)
        downloader.fetch(Wish(secure(server) + "/good", access=shown), tmp_path / "film")


def test_a_certificate_that_is_just_being_renewed_holds_nothing_up(tmp_path):
    """The new one is there, its key isn't yet: connections are made with the old pair."""
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("me")
    shown = Access(certificate=certificate, key=key, ca=authority.path)
    tls = authority.server(wants_client=True)
    with contextlib.ExitStack() as stack:
        downloader = stack.enter_context(contextlib.closing(Downloader(TYPED)))
        first, second, third = (stack.enter_context(serving(tls=tls)) for _ in range(3))
        downloader.fetch(Wish(secure(first) + "/good", access=shown), tmp_path / "film")
        before = key.read_bytes()
        authority.certificate("me")
        key.write_bytes(before)
        downloader.fetch(Wish(secure(second) + "/good", access=shown), tmp_path / "film")
        assert second.certificates == [True]
        for path in (certificate, key):
            os.utime(path, (time.time() - 100, time.time() - 100))
        with pytest.raises(InvalidRequest):
            downloader.fetch(Wish(secure(third) + "/good", access=shown), tmp_path / "film")


def test_authorities_that_can_not_be_read_are_not_those_of_before(tmp_path):
    """Whoever replaces them wants the old ones to be trusted no more."""
    authority = Authority(tmp_path)
    shown = Access(ca=authority.path)
    tls = authority.server()
    with contextlib.closing(Downloader(TYPED)) as downloader, serving(tls=tls) as first, serving(tls=tls) as second:
        downloader.fetch(Wish(secure(first) + "/good", access=shown), tmp_path / "film")
        authority.path.write_text("-----BEGIN CERTIFICATE-----\n")
        with pytest.raises(InvalidRequest):
            downloader.fetch(Wish(secure(second) + "/good", access=shown), tmp_path / "film")


def test_only_the_named_authorities_are_trusted(tmp_path):
    """As with curl's ``--cacert``."""
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "other")
    with serving(tls=ours.server()) as server:
        assert fetch(secure(server) + "/good", tmp_path, Access(ca=ours.path)) == BODY
        for access in (Access(ca=theirs.path), accesses.OPEN):
            with pytest.raises(SourceRefused, match="certificate"):
                fetch(secure(server) + "/good", tmp_path, access)


def test_a_body_without_a_length_ends_with_a_close_notify(tmp_path):
    """Where TCP only ends, somebody may have cut it (RFC 8446, section 6.1); curl refuses it too."""
    authority = Authority(tmp_path)
    access = Access(ca=authority.path)
    with serving(tls=authority.server()) as server:
        assert fetch(secure(server) + "/until-closed", tmp_path, access) == BODY
        with pytest.raises(SourceError) as caught:
            fetch(secure(server) + "/cut-short", tmp_path, access)
        assert caught.value.retryable


def test_files_that_are_no_certificates_are_our_error(tmp_path):
    """Missing, no PEM, another's key, a key with a password: nobody is asked on the terminal."""
    authority = Authority(tmp_path)
    certificate, _ = authority.certificate("me")
    _, others_key = authority.certificate("other")
    locked, locked_key = authority.certificate("locked", b"secret")
    (tmp_path / "text").write_text("text")
    for access in (
        Access(ca=tmp_path / "nothing"),
        Access(ca=tmp_path / "text"),
        Access(certificate=tmp_path / "nothing"),
        Access(certificate=tmp_path / "text"),
        Access(certificate=certificate),
        Access(certificate=certificate, key=others_key),
        Access(certificate=locked, key=locked_key),
    ):
        with pytest.raises(InvalidRequest):
            fetch("https://127.0.0.1:9/x", tmp_path, access)
