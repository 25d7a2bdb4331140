"""Proof: what a file was promised to be is checked, and rubbish can't fail a good download."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Mapping

import blake3
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.download import proof
from headrace.download.proof import ALGORITHMS, Promise
from headrace.errors import ChecksumMismatch, InvalidRequest

BODY = b'{"hello": "world"}\n'
"""RFC 9530's example; its fields below are copied from appendix B.3."""
WHOLE = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
PART = "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:"

ABC = {
    "sha512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    "sha384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "blake3": "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "crc64nvme": "05e5cabb3fc1faeb",
    "crc32c": "364b3fb7",
    "crc32": "352441c2",
}
"""Of ``abc``: FIPS 180-4's and RFC 1321's vectors, BLAKE3's and zlib's own; the other CRCs' are of Amazon's library."""

algorithms = st.sampled_from(list(ALGORITHMS))
plain_names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(
    lambda name: name == name.strip() and not name.startswith(("./", "-"))
)
any_names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60).filter(
    lambda name: not name.startswith("./")
)


def of(body: bytes) -> dict[str, str]:
    """All digests of a body."""
    found = {}
    for algorithm in ALGORITHMS:
        hasher = proof.new(algorithm)
        hasher.update(body)
        found[algorithm] = hasher.hexdigest()
    return found


def b64(algorithm: str, body: bytes = BODY) -> str:
    """A digest as header fields have it."""
    return base64.b64encode(bytes.fromhex(of(body)[algorithm])).decode()


def labels(headers: Mapping[str, str], *, whole: bool) -> list[str]:
    """Labels of what an answer with BODY promises; each of them must hold."""
    found = proof.from_headers(headers, whole=whole)
    assert proof.check(found, of(BODY)) == tuple(one.label for one in found)
    return [one.label for one in found]


def test_the_digests_are_those_of_the_standards() -> None:
    """``abc`` in two steps, from bytes and from a memoryview, has the published digests."""
    for algorithm, expected in ABC.items():
        hasher = proof.new(algorithm)
        hasher.update(bytearray(b"a"))
        hasher.update(memoryview(b"bc"))
        assert hasher.hexdigest() == expected
        assert len(expected) == ALGORITHMS[algorithm]
    with pytest.raises(ValueError, match="none of"):
        proof.new("sha224")


@pytest.mark.parametrize("text", [ABC["sha256"], ABC["sha256"].upper(), f"  {ABC['sha256']}\n"])
@pytest.mark.parametrize("name", ["sha256", "SHA256", "sha-256"])
def test_a_users_checksum_is_read_with_its_capitals_and_spaces(name: str, text: str) -> None:
    """However it was copied, it becomes lower-case hex and a known name."""
    made = proof.promise(name, text, "order")
    assert made == Promise("sha256", ABC["sha256"], "order")
    assert made.label == "sha256:order"


@pytest.mark.parametrize(
    ("name", "text", "says", "hints"),
    [
        ("sha256", ABC["sha1"], "64 hexadecimal digits, and this one has 40", "as long as a SHA-1"),
        ("sha1", ABC["sha256"], "40 hexadecimal digits, and this one has 64", "a SHA-256 or a BLAKE3"),
        ("sha256", ABC["sha256"][:-1], "and this one has 63", "64 hexadecimal digits"),
        ("sha256", "g" * 64, "not hexadecimal", "64 hexadecimal digits"),
        ("sha256", "", "not hexadecimal", "64 hexadecimal digits"),
        ("sha256", "٣" * 64, "not hexadecimal", "64 hexadecimal digits"),
        ("md2", ABC["md5"], "'md2' is no checksum", "sha256"),
        ("", ABC["md5"], "no checksum", "sha256"),
        ("x" * 100_000, "y" * 100_000, "no checksum", "sha256"),
    ],
)
def test_a_users_wrong_checksum_is_refused_with_a_hint(name: str, text: str, says: str, hints: str) -> None:
    """The message says what is wrong, in one short line, and the hint what to do."""
    with pytest.raises(InvalidRequest) as caught:
        proof.promise(name, text, "order")
    assert says in caught.value.message
    assert hints in caught.value.hint
    assert len(caught.value.message) < 200
    assert "\n" not in caught.value.message


# --- header fields ---


def test_repr_digest_counts_on_a_206_and_content_digest_does_not() -> None:
    """RFC 9530, appendix B.3: the one is of the file, the other of the part."""
    headers = {"Content-Range": "bytes 10-18/19", "Content-Digest": PART, "Repr-Digest": WHOLE}
    assert labels(headers, whole=False) == ["sha256:repr-digest"]


def test_content_digest_counts_on_a_whole_answer() -> None:
    """On a 200 with all of the file, content and representation are the same."""
    assert labels({"content-digest": WHOLE}, whole=True) == ["sha256:content-digest"]


def test_content_md5_counts_on_a_whole_answer_only() -> None:
    """RFC 1864's digest is of the body that it came with."""
    assert labels({"Content-MD5": b64("md5")}, whole=True) == ["md5:content-md5"]
    assert labels({"Content-MD5": b64("md5")}, whole=False) == []


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(st.binary(max_size=100), st.lists(st.sampled_from(["sha-512", "sha-256", "sha", "md5"]), unique=True))
def test_repr_digest_comes_back_as_it_was_written(body: bytes, keys: list[str]) -> None:
    """A field built by RFC 9651's rules, unknown members between, promises what it was built from."""
    names = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}
    members = [f"{key}=:{b64(names[key], body)}:" for key in keys]
    field = ', unixsum=:GQU=:,\tnew="a, b";q=1, '.join(members)
    found = proof.from_headers({"REPR-DIGEST": field}, whole=False)
    assert set(found) == {Promise(names[key], of(body)[names[key]], "repr-digest") for key in keys}


@pytest.mark.parametrize(
    "field",
    [
        "",
        ",,,",
        "sha-256",
        "sha-256=",
        "sha-256=:",
        "sha-256=::",
        "sha-256=:AAAA:",
        f"sha-256=:{b64('sha512')}:",
        f"sha-256=:{b64('sha256')}",
        f"sha-256={b64('sha256')}",
        f"sha-256=:{of(BODY)['sha256']}:",
        f"SHA-256=:{b64('sha256')}:",
        f"sha-256 =:{b64('sha256')}:",
        f"sha-256=:{b64('sha256')}:junk",
        f'a="x, {WHOLE}"',
        f'a="x\\", {WHOLE}',
        f"sha-256=:{'A' * 100_000}:",
        "sha-256=:é" + "A" * 42 + ":",
        "adler=:Q3lHIA==:",
        f"{WHOLE}, sha-256=:AAAA:",
        f"{WHOLE}, sha-256",
    ],
)
def test_a_malformed_digest_field_promises_nothing(field: str) -> None:
    """Wrong lengths, cut ends, text in quotes and a last duplicate that is rubbish: none can fail a download."""
    assert proof.from_headers({"Repr-Digest": field}, whole=True) == ()


@pytest.mark.parametrize(
    "field",
    [
        f"sha-256=:{'A' * 43}=:, {WHOLE}",  # duplicates: the last counts (RFC 9651, section 4.2.2)
        f"broken=:, {WHOLE}",
        f"{WHOLE};note=1",
        WHOLE.replace("=:", ":").replace("sha-256:", "sha-256=:"),  # without padding
        WHOLE.replace("Dg=:", "Dg==:"),  # RFC 9530, appendix B.5, has it so
    ],
)
def test_one_good_member_is_enough(field: str) -> None:
    """Its neighbours' faults don't hide it."""
    assert labels({"repr-digest": field}, whole=False) == ["sha256:repr-digest"]


def test_quotes_without_end_are_read_in_one_pass() -> None:
    """A megabyte of hostile quotes takes no time to speak of."""
    assert proof.from_headers({"repr-digest": '"\\' * 500_000}, whole=True) == ()


def test_the_old_digest_field_counts_like_repr_digest() -> None:
    """RFC 3230: names in any case, base64 without colons; the others' encodings are not guessed."""
    field = f"unixsum=30637, SHA-256={b64('sha256')},md5={b64('md5')}, sha-512={b64('sha512')}, SHA={b64('sha1')}"
    assert set(labels({"Digest": field}, whole=False)) == {"sha256:digest", "md5:digest", "sha512:digest"}
    assert proof.from_headers({"Digest": f"SHA-256={of(BODY)['sha256']}"}, whole=True) == ()


@pytest.mark.parametrize("algorithm", ["sha512", "sha256", "sha1", "crc64nvme", "crc32c", "crc32"])
def test_an_amazon_checksum_of_the_whole_object_counts(algorithm: str) -> None:
    """With and without the type that newer answers have."""
    field = {f"x-amz-checksum-{algorithm}": b64(algorithm)}
    expected = [f"{algorithm}:x-amz-checksum-{algorithm}"]
    assert labels(field, whole=True) == expected
    assert labels(field | {"x-amz-checksum-type": "FULL_OBJECT"}, whole=True) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"x-amz-checksum-sha256": b64("sha256", b"other"), "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-sha256": b64("sha256", b"other") + "-3"},
        {"x-amz-checksum-crc64nvme": "Q3lHIA=="},
        {"x-amz-checksum-xxhash3": "AAAAAAAAAAA="},
        {"x-amz-checksum-sha256": f"{b64('sha256')}, {b64('sha256')}"},
    ],
)
def test_a_checksum_of_parts_or_of_another_kind_is_no_promise(fields: dict[str, str]) -> None:
    """A composite is the checksum of the parts' checksums; the others can't be computed here."""
    assert proof.from_headers(fields, whole=True) == ()


def test_an_amazon_checksum_on_a_206_is_no_promise() -> None:
    """To a range that is one part, S3 answers with that part's checksum, and no suffix tells (botocore#3346)."""
    field = {"x-amz-checksum-sha256": b64("sha256")}
    assert proof.from_headers(field, whole=False, ranged=True) == ()
    assert proof.from_headers(field, whole=True, ranged=True) == ()
    said = field | {"x-amz-checksum-type": "FULL_OBJECT"}
    assert len(proof.from_headers(said, whole=True, ranged=True)) == 1
    assert proof.from_headers(said, whole=False, ranged=True) == ()


def test_googles_hash_is_of_the_stored_object() -> None:
    """It counts on a 206 too, in one field or two, and not where the object was decoded on its way."""
    joined = {"X-Goog-Hash": f"crc32c={b64('crc32c')},md5={b64('md5')}"}
    both = ["crc32c:x-goog-hash", "md5:x-goog-hash"]
    assert labels(joined, whole=False) == both
    assert labels(joined | {"x-goog-stored-content-encoding": "identity"}, whole=False) == both
    assert labels(joined | {"x-goog-stored-content-encoding": "gzip"}, whole=True) == []
    two = httpx.Headers([("x-goog-hash", f"crc32c={b64('crc32c')}"), ("x-goog-hash", f"md5={b64('md5')}")])
    assert labels(two, whole=True) == both
    assert [one.label for one in proof.chosen(proof.from_headers(joined, whole=True))] == ["md5:x-goog-hash"]


FIELDS = ["repr-digest", "content-digest", "digest", "content-md5", "x-amz-checksum-crc32", "x-goog-hash"]


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=200) | st.text('sha-256=:,;"\\Aa/+ ', max_size=200)))
def test_no_header_breaks_the_reading(headers: dict[str, str]) -> None:
    """Whatever a server sends, what is returned are digests, or nothing."""
    for one in proof.from_headers(headers, whole=True):
        assert len(one.value) == ALGORITHMS[one.algorithm]
        assert one.value == bytes.fromhex(one.value).hex()


# --- choosing and checking ---


def test_the_strongest_is_the_strongest_algorithm() -> None:
    """Of equals the first; of nothing, nothing."""
    found = [Promise(algorithm, ABC[algorithm], "digest") for algorithm in reversed(ALGORITHMS)]
    best = proof.strongest(found)
    assert best is not None
    assert best.algorithm == "sha512"
    assert proof.strongest([]) is None


def test_what_the_user_asked_for_is_chosen_and_the_servers_strongest() -> None:
    """All of the user's, weak ones too; of the server's own only the best, because each costs a pass."""
    asked = [Promise("md5", ABC["md5"], "order"), Promise("sha1", ABC["sha1"], "sidecar")]
    offered = [Promise("crc32", ABC["crc32"], "x-amz-checksum-crc32"), Promise("sha256", ABC["sha256"], "repr-digest")]
    assert proof.chosen([*offered, *reversed(asked)]) == (*asked, offered[1])
    assert proof.chosen([]) == ()


def test_the_same_digest_counts_once_and_the_users_word_first() -> None:
    """It is recorded as ordered, though the server and a Metalink say it too."""
    origins = ["content-md5", "repr-digest", "metalink", "sidecar", "order"]
    assert [one.label for one in proof.chosen(Promise("md5", ABC["md5"], origin) for origin in origins)] == [
        "md5:order"
    ]


@pytest.mark.parametrize("first", ["order", "repr-digest"])
def test_promises_that_contradict_each_other_fail_whatever_the_file_is(first: str) -> None:
    """Neither is dropped, so one of them can't hold."""
    lie = Promise("sha256", "0" * 64, "content-digest")
    chosen = proof.chosen([Promise("sha256", ABC["sha256"], first), lie])
    assert len(chosen) == 2
    for body in (b"abc", b"other"):
        with pytest.raises(ChecksumMismatch):
            proof.check(chosen, of(body))


def test_proofs_that_hold_are_recorded_with_their_origin() -> None:
    """What stands in the catalogue says which digest, and from where."""
    found = [Promise("sha256", ABC["sha256"], "order"), Promise("md5", ABC["md5"], "x-goog-hash")]
    assert proof.check(found, ABC) == ("sha256:order", "md5:x-goog-hash")
    assert proof.check([], {}) == ()


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("order", "as ordered"),
        ("sidecar", "as the checksum file says"),
        ("metalink", "as the Metalink says"),
        ("repr-digest", "as the server's Repr-Digest says"),
        ("content-md5", "as the server's Content-MD5 says"),
        ("x-amz-checksum-sha256", "as the server's x-amz-checksum-sha256 says"),
    ],
)
def test_a_mismatch_says_what_was_found_promised_and_by_whom(origin: str, says: str) -> None:
    """The message is for a person, the evidence for a program."""
    with pytest.raises(ChecksumMismatch) as caught:
        proof.check([Promise("sha256", "0" * 64, origin)], ABC)
    assert caught.value.message == f"the SHA-256 is {ABC['sha256']}, not {'0' * 64} {says}"
    assert caught.value.evidence == {
        "algorithm": "sha256",
        "found": ABC["sha256"],
        "promised": "0" * 64,
        "origin": origin,
    }


def test_a_promise_without_a_digest_is_not_passed_over() -> None:
    """To forget to compute one is a mistake in the program, not a proof."""
    with pytest.raises(KeyError):
        proof.check([Promise("sha256", ABC["sha256"], "order")], {"md5": ABC["md5"]})


# --- checksum files ---


def gnu(value: str, name: str, flag: str = " ") -> str:
    """A line as coreutils 9 writes it."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{value} {flag}{escaped}\n"


def sidecar(algorithm: str = "sha256", body: bytes = b"abc") -> Promise:
    """What a checksum file promises of a body."""
    return Promise(algorithm, of(body)[algorithm], "sidecar")


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(st.sampled_from(["sha512", "sha384", "sha256", "sha1", "md5"]), any_names, st.sampled_from(" *"), st.booleans())
def test_a_gnu_line_comes_back_as_it_was_written(algorithm: str, name: str, flag: str, upper: bool) -> None:
    """Any name, also with line breaks and backslashes, among other files' lines."""
    value = ABC[algorithm].upper() if upper else ABC[algorithm]
    text = gnu("0" * 64, name + "x") + gnu(value, name, flag) + gnu("1" * 64, "x" + name)
    assert proof.parse_sums(text, name) == (sidecar(algorithm),)


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(algorithms, plain_names, st.sampled_from(["\n", "\r\n", ""]))
def test_a_bsd_line_comes_back_as_it_was_written(algorithm: str, name: str, end: str) -> None:
    """The tag says the algorithm, also for those whose length does not."""
    text = f"SHA256 ({name}x) = {'0' * 64}\n{algorithm.upper()} ({name}) = {ABC[algorithm]}{end}"
    assert proof.parse_sums(text, name) == (sidecar(algorithm),)


@pytest.mark.parametrize("options", [[], ["--binary"], ["--tag"]])
@pytest.mark.parametrize("name", ["film.mp4", "a b.mp4", "a\\b.mp4", "a\nb.mp4", "(a) = b.mp4", "ünï.mp4"])
def test_what_this_machines_sha256sum_writes_is_read(tmp_path, name: str, options: list[str]) -> None:
    """The real program's lines, with each of its escapes."""
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("sha256sum is absent")
    (tmp_path / name).write_bytes(b"abc")
    text = subprocess.run([program, *options, name], cwd=tmp_path, capture_output=True, check=True).stdout.decode()
    assert proof.parse_sums(text, name) == (sidecar(),)


@pytest.mark.parametrize(
    "text",
    [
        ABC["sha256"],
        ABC["sha256"].upper() + "\n",
        f"\ufeff{ABC['sha256']}\r\n\r\n",
        f"  {ABC['sha256']}   \n",
        f"# made by hand\n{ABC['sha256']}\n",
        f"{ABC['sha256']}  -\n",  # sha256sum < film.mp4
        f"{ABC['sha256']}  film.mp4",
        f"{ABC['sha256']} *film.mp4\r\n",
        f"{ABC['sha256']} film.mp4",
        f"{ABC['sha256']}\tfilm.mp4",
        f"{ABC['sha256']}  ./film.mp4",
        f"{ABC['sha256']}  build/out/film.mp4",
        f"{ABC['sha256']} *build\\out\\film.mp4",
        f"SHA256 (film.mp4) = {ABC['sha256']}",
        f"SHA2-256(film.mp4)= {ABC['sha256']}",
        f"SHA256 (dir/film.mp4) = {ABC['sha256'].upper()}   ",
        f"{ABC['sha256']}  film.mp4\n{ABC['sha256']}  film.mp4\n",
        f"{ABC['sha256']}  film.mp4\n{'0' * 64}  old/film.mp4\n",  # the exact name is preferred
    ],
)
def test_the_ways_in_which_publishers_write_checksums(text: str) -> None:
    """Bare, GNU's, BSD's, OpenSSL's and Windows' all name the same film."""
    assert proof.parse_sums(text, "film.mp4") == (sidecar(),)


def test_a_clear_signed_file_is_read_without_its_armour() -> None:
    """RFC 9580, section 7: dash-escaped lines, and a signature that is no checksum."""
    inner = f"{ABC['sha256']}  film.mp4\n- -----not a header\n"
    signature = "-----BEGIN PGP SIGNATURE-----\n\niQ\n" + "a" * 64 + "\n-----END PGP SIGNATURE-----\n"
    head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
    assert proof.parse_sums(head + inner + signature, "film.mp4") == (sidecar(),)
    assert proof.parse_sums(f"{head}{ABC['sha256']}\n{signature}", "film.mp4") == (sidecar(),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "no checksum here",
        "<html><body>404 Not Found</body></html>",
        f"{ABC['sha256']}  other.mp4",
        f"{ABC['sha256']}  xfilm.mp4",
        f"{ABC['sha256']}  film.mp4/other",
        f"{ABC['sha256']}  film.mp4 ",
        f"{ABC['sha256'][:-1]}  film.mp4",
        f"{ABC['sha256']}0  film.mp4",
        f"{'g' * 64}  film.mp4",
        f"MD5 (film.mp4) = {ABC['sha256']}",
        f"SHA256 (film.mp4) = {ABC['md5']}",
        f"RMD160 (film.mp4) = {ABC['sha1']}",
        f"BLAKE2b (film.mp4) = {ABC['sha512']}",
        f"{ABC['sha256']}\n{ABC['sha256']}\n",  # which file is which?
        f"Checksums:\n{ABC['sha256']}\n",
        f"\\{ABC['sha256']}  film\\x.mp4",  # an escape that GNU does not write
        f"{ABC['crc32']}",
        f"film.mp4 {ABC['crc32']}",
        f"{ABC['sha256']}  amd64/film.mp4\n{'0' * 64}  arm64/film.mp4\n",
    ],
)
def test_a_file_that_says_nothing_of_the_film(text: str) -> None:
    """Other names, wrong lengths, unknown tags, and two paths that end alike: no promise."""
    assert proof.parse_sums(text, "film.mp4") == ()


def test_exact_lines_that_contradict_each_other_both_count() -> None:
    """So the check fails clearly, instead of one being picked."""
    found = proof.parse_sums(f"{ABC['sha256']}  f\n{'0' * 64}  f\n", "f")
    assert [one.value for one in found] == [ABC["sha256"], "0" * 64]


def test_several_algorithms_for_the_same_film_all_count() -> None:
    """As in BSD's CHECKSUM files."""
    text = "".join(f"{algorithm.upper()} (f) = {value}\n" for algorithm, value in ABC.items())
    assert {one.algorithm: one.value for one in proof.parse_sums(text, "f")} == ABC


def test_only_the_beginning_of_a_huge_file_is_looked_at() -> None:
    """What is cut off is not read, and half a line promises nothing."""
    line = f"{ABC['sha256']}  film.mp4"
    filler = "#" * (proof.MAX_SUMS_BYTES - len(line) - 1) + "\n"
    assert proof.parse_sums(filler + line, "film.mp4") == (sidecar(),)
    assert proof.parse_sums(filler + line + ".bak\n", "film.mp4") == ()
    assert proof.parse_sums("#" * proof.MAX_SUMS_BYTES + "\n" + line, "film.mp4") == ()


@pytest.mark.parametrize("unit", ["a", "A(", ")", "\\", " ", "\n", "a (b) = ", "'\""])
def test_a_hostile_checksum_file_is_read_in_one_pass(unit: str) -> None:
    """A megabyte of each takes no time to speak of."""
    assert proof.parse_sums("MD5 (" + unit * proof.MAX_SUMS_BYTES, "film.mp4") == ()
    assert proof.parse_sums(unit * proof.MAX_SUMS_BYTES, "film.mp4") == ()


@settings(deadline=None)  # a busy machine's pauses are no finding
@given(st.text(max_size=300) | st.text("0aF \\*()=\n\r/.f", max_size=300), st.text(max_size=5))
def test_no_checksum_file_breaks_the_reading(text: str, name: str) -> None:
    """Whatever it holds, what is returned are digests, or nothing."""
    for one in proof.parse_sums(text, name):
        assert len(one.value) == ALGORITHMS[one.algorithm]


def test_checksums_are_looked_for_beside_the_file() -> None:
    """Its own first, then its folder's; the query, which may be signed for one path, is not sent."""
    assert proof.sidecar_urls("https://u:p@h:8443/a/b%20c.mp4?X-Amz-Signature=1#t") == (
        ("https://u:p@h:8443/a/b%20c.mp4.sha256", "sha256"),
        ("https://u:p@h:8443/a/b%20c.mp4.sha256sum", "sha256"),
        ("https://u:p@h:8443/a/b%20c.mp4.sha512", "sha512"),
        ("https://u:p@h:8443/a/b%20c.mp4.md5", "md5"),
        ("https://u:p@h:8443/a/SHA256SUMS", "sha256"),
        ("https://u:p@h:8443/a/SHA512SUMS", "sha512"),
        ("https://u:p@h:8443/a/MD5SUMS", "md5"),
        ("https://u:p@h:8443/a/sha256sum.txt", "sha256"),
    )
    assert proof.sidecar_urls("http://h/film.mp4")[4] == ("http://h/SHA256SUMS", "sha256")


@pytest.mark.parametrize("url", ["https://h", "https://h/", "https://h/a/", "https://h/?file=a.mp4"])
def test_a_url_without_a_file_has_nothing_beside_it(url: str) -> None:
    """No name can be looked up in a folder's list."""
    assert proof.sidecar_urls(url) == ()


def test_the_digests_agree_with_their_libraries() -> None:
    """``new`` adds nothing to hashlib and BLAKE3."""
    assert of(BODY)["sha384"] == hashlib.sha384(BODY).hexdigest()
    assert of(BODY)["blake3"] == blake3.blake3(BODY).hexdigest()
