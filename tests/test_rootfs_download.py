"""Fetching an archive: from a good server, and from ones that stall, lie, break off or send something else."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from suites.framework.errors import ExitCode, InfrastructureError, SeatrialError, UsageError
from suites.framework.rootfs.download import Patience, fetch, leftovers

DATA = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(DATA).hexdigest()
TAG = '"v1"'
LONG_S = 30.0
"""A bound on tests that would otherwise hang."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the server's `answer` says, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()})
        with suppress(BrokenPipeError, ConnectionResetError):
            self.server.answer(self)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def send(self, status: int, body: bytes, **fields: str | int) -> None:
        """Send an answer; `Content_Length` becomes Content-Length."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), "ETag": TAG, "Connection": "close", **fields}.items():
            if value != "":
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def whole(self) -> None:
        """Send everything."""
        self.send(200, DATA)

    @property
    def first(self) -> int:
        """Return where the range begins that was asked for."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def ranged(self, **fields: str | int) -> None:
        """Send what was asked for, if it still is the same."""
        if "Range" not in self.headers or self.headers.get("If-Range", TAG) != TAG:
            return self.whole()
        place = f"bytes {self.first}-{len(DATA) - 1}/{len(DATA)}"
        return self.send(206, DATA[self.first :], **{"Content_Range": place, **fields})


class Server(http.server.ThreadingHTTPServer):
    """A server on this machine; `over` is set when the test is."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, str]] = []
        self.answer: Callable[[Handler], object] = Handler.whole
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Return the address of the archive."""
        return f"http://127.0.0.1:{self.server_address[1]}/tree.tar"


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve until the test is over."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.over.set()
        made.shutdown()
        thread.join()


def direct() -> requests.Session:
    """Return a session that asks no proxy."""
    session = requests.Session()
    session.trust_env = False
    return session


def take(server: Server, folder: Path, **patience: float) -> bytes:
    """Fetch the archive and return its content."""
    limits = Patience(**{"connect_s": LONG_S, "silence_s": LONG_S, "whole_s": LONG_S, **patience})  # type: ignore[arg-type]
    return fetch(server.url, SHA256, folder, patience=limits, session=direct).read_bytes()


def refusal(server: Server, folder: Path, **patience: float) -> SeatrialError:
    with pytest.raises(SeatrialError) as caught:
        take(server, folder, **patience)
    assert str(caught.value).isprintable()
    assert caught.value.remedy
    return caught.value


def cut(at: int, **fields: str | int) -> Callable[[Handler], None]:
    """Return an answer that announces everything and ends after so many bytes."""

    def answer(handler: Handler) -> None:
        handler.send(200, DATA[:at], Content_Length=len(DATA), **fields)

    return answer


# ---- servers that work


def test_an_archive_is_fetched(server: Server, tmp_path: Path) -> None:
    """One request, unencoded, and nothing beside the file in the end but what belongs to it."""
    assert DATA == take(server, tmp_path)
    assert ["identity"] == [asked["accept-encoding"] for asked in server.asked]
    assert "range" not in server.asked[0]


def test_progress_is_reported(server: Server, tmp_path: Path) -> None:
    """How much there is, and of how much, growing up to the whole."""
    heard: list[tuple[int, int]] = []
    fetch(server.url, SHA256, tmp_path, session=direct, report=lambda done, of: heard.append((done, of)))
    assert (len(DATA), len(DATA)) == heard[-1]
    assert heard == sorted(heard)


def test_a_server_that_does_not_say_how_much_is_fine(server: Server, tmp_path: Path) -> None:
    """Without Content-Length the end of the connection is the end."""
    server.answer = lambda handler: handler.send(200, DATA, Content_Length="")
    assert DATA == take(server, tmp_path)


def test_chunks_are_put_together(server: Server, tmp_path: Path) -> None:
    """Transfer-Encoding chunked is undone."""

    def answer(handler: Handler) -> None:
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (DATA[:1000], DATA[1000:]))
        handler.send(200, body + b"0\r\n\r\n", Content_Length="", Transfer_Encoding="chunked")

    server.answer = answer
    assert DATA == take(server, tmp_path)


def test_redirects_are_followed_a_few_times(server: Server, tmp_path: Path) -> None:
    """To the archive; not in circles."""

    def answer(handler: Handler) -> None:
        if handler.path == "/tree.tar":
            handler.send(302, b"", Location="/elsewhere")
        else:
            handler.whole()

    server.answer = answer
    assert DATA == take(server, tmp_path)
    server.answer = lambda handler: handler.send(302, b"", Location=f"{handler.path}x")
    (tmp_path / "other").mkdir()
    assert "Exceeded 5 redirects" in str(refusal(server, tmp_path / "other"))


def test_a_redirect_to_a_file_of_this_machine_is_refused(server: Server, tmp_path: Path) -> None:
    """Only the network is asked."""
    server.answer = lambda handler: handler.send(302, b"", Location="file:///etc/passwd")
    assert "No connection adapters" in str(refusal(server, tmp_path))


# ---- going on where it broke off


def test_what_broke_off_is_resumed(server: Server, tmp_path: Path) -> None:
    """The second attempt asks for the rest, if it still is the same, and puts both together."""
    server.answer = cut(100_000)
    first = refusal(server, tmp_path)
    assert (InfrastructureError, True) == (type(first), "100000 bytes" in str(first))
    assert "goes on from there" in first.remedy
    server.answer = Handler.ranged
    assert DATA == take(server, tmp_path)
    assert ("bytes=100000-", TAG) == (server.asked[-1]["range"], server.asked[-1]["if-range"])
    assert 2 == len(server.asked)


@pytest.mark.parametrize(
    ("fields", "validator"),
    [
        ({"ETag": 'W/"weak"', "Last_Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}, "Sat, 21 Nov 2026 10:00:00 GMT"),
        ({"ETag": 'W/"weak"'}, None),
        ({"ETag": ""}, None),
    ],
)
def test_only_a_strong_validator_is_used(
    server: Server, tmp_path: Path, fields: dict[str, str | int], validator: str | None
) -> None:
    """A weak tag does not promise the same bytes (RFC 9110, 13.1.5); without any the checksum decides."""
    server.answer = cut(1000, **fields)
    refusal(server, tmp_path)
    server.answer = lambda handler: handler.send(
        206, DATA[handler.first :], Content_Range=f"bytes {handler.first}-{len(DATA) - 1}/{len(DATA)}"
    )
    assert DATA == take(server, tmp_path)
    assert (validator, "bytes=1000-") == (server.asked[-1].get("if-range"), server.asked[-1]["range"])


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    """Status 200 instead of 206: what there was is thrown away."""
    server.answer = cut(1000)
    refusal(server, tmp_path)
    server.answer = Handler.whole
    assert DATA == take(server, tmp_path)


def test_pieces_of_different_archives_are_fetched_as_a_whole(server: Server, tmp_path: Path) -> None:
    """What was put together and is wrong is fetched once more, in the same attempt."""
    server.answer = lambda handler: handler.send(200, b"other" * 100, Content_Length=len(DATA))
    refusal(server, tmp_path)
    server.answer = Handler.ranged
    assert DATA == take(server, tmp_path)
    assert [True, False] == ["range" in asked for asked in server.asked[1:]]


def test_a_part_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    """Status 416: begin anew."""
    (tmp_path / f"{SHA256}.part").write_bytes(DATA + b"more")

    def answer(handler: Handler) -> None:
        if "Range" in handler.headers:
            handler.send(416, b"")
        else:
            handler.whole()

    server.answer = answer
    assert DATA == take(server, tmp_path)


def test_a_part_that_is_whole_needs_no_server(tmp_path: Path) -> None:
    """A run that was killed after the last byte has it all."""
    (tmp_path / f"{SHA256}.part").write_bytes(DATA)
    assert DATA == fetch("http://127.0.0.1:1/", SHA256, tmp_path, session=direct).read_bytes()


@pytest.mark.parametrize("place", ["bytes 0-9/10", "bytes 999-1001/1002", "nonsense", ""])
def test_a_piece_from_elsewhere_is_not_appended(server: Server, tmp_path: Path, place: str) -> None:
    """A 206 that is not what was asked for ends the attempt; the next one begins anew."""
    server.answer = cut(1000)
    refusal(server, tmp_path)
    server.answer = lambda handler: handler.ranged(Content_Range=place)
    assert "asked for what follows byte 1000" in str(refusal(server, tmp_path))
    assert [] == leftovers(tmp_path)
    server.answer = Handler.ranged
    assert DATA == take(server, tmp_path)
    assert "range" not in server.asked[-1]


# ---- servers that do not


def stall(handler: Handler) -> None:
    """Send a little, and then nothing."""
    handler.send(200, DATA[:500], Content_Length=len(DATA))
    handler.wfile.flush()
    handler.server.over.wait(LONG_S)


def trickle(handler: Handler) -> None:
    """Send a byte now and then, for ever."""
    handler.send(200, b"", Content_Length=len(DATA))
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"x")


def test_a_server_that_stalls_is_given_up(server: Server, tmp_path: Path) -> None:
    """After the time without a byte; what there is stays for the next attempt."""
    server.answer = stall
    error = refusal(server, tmp_path, silence_s=0.3)
    assert (InfrastructureError, ExitCode.INFRASTRUCTURE) == (type(error), error.exit_code)
    assert "it sent nothing for 0.3 s after 500 bytes" in str(error)
    server.answer = Handler.ranged
    assert DATA == take(server, tmp_path)
    assert "bytes=500-" == server.asked[-1]["range"]


def test_a_server_that_does_not_answer_is_given_up(server: Server, tmp_path: Path) -> None:
    """Not even a status line comes."""
    server.answer = lambda handler: handler.server.over.wait(LONG_S)
    assert "it sent nothing for 0.3 s" in str(refusal(server, tmp_path, silence_s=0.3))


def test_a_server_that_trickles_is_given_up(server: Server, tmp_path: Path) -> None:
    """A byte now and then is never silence, but not for ever."""
    server.answer = trickle
    assert "it was not done within 0.5 s" in str(refusal(server, tmp_path, whole_s=0.5))


def test_nobody_listens(tmp_path: Path) -> None:
    """A refused connection is said in the system's words."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(InfrastructureError, match="Connection refused"):
            fetch(url, SHA256, tmp_path, session=direct)


def test_a_name_that_is_not_known(tmp_path: Path) -> None:
    """So is one that cannot be resolved."""
    with pytest.raises(InfrastructureError, match=r"nowhere\.invalid"):
        fetch("http://nowhere.invalid/x", SHA256, tmp_path, session=direct)


def test_a_length_that_is_too_long_is_a_lie(server: Server, tmp_path: Path) -> None:
    """More announced than sent: it broke off, and nothing is taken for whole."""
    server.answer = cut(len(DATA) - 1)
    assert f"{len(DATA) - 1} bytes" in str(refusal(server, tmp_path))


def test_a_length_that_is_too_short_is_a_lie(server: Server, tmp_path: Path) -> None:
    """Less announced than there is: the checksum tells, and nothing is kept."""
    server.answer = lambda handler: handler.send(200, DATA, Content_Length=1000)
    error = refusal(server, tmp_path)
    assert (UsageError, True) == (type(error), "its 1000 bytes have SHA-256" in str(error))
    assert [] == leftovers(tmp_path)


@pytest.mark.parametrize("length", ["many", "-5", "9" * 40, str(1 << 60), "12, 12"])
def test_a_length_that_is_nonsense_is_a_lie(server: Server, tmp_path: Path, length: str) -> None:
    """Whatever stands there, it ends in one line or with the right bytes."""
    server.answer = lambda handler: handler.send(200, DATA, Content_Length=length)
    with suppress(SeatrialError):
        assert DATA == take(server, tmp_path)


@pytest.mark.parametrize("length", [len(DATA), ""])
def test_too_much_is_not_taken(server: Server, tmp_path: Path, length: int | str) -> None:
    """Announced or not, beyond the limit it ends, and nothing is kept."""
    server.answer = lambda handler: handler.send(200, DATA, Content_Length=length)
    error = refusal(server, tmp_path, bytes=100_000)
    assert (UsageError, True) == (type(error), "is too large: more than 0 MiB" in str(error))
    assert [] == leftovers(tmp_path)


def test_another_content_is_refused(server: Server, tmp_path: Path) -> None:
    """The wrong checksum names both, and nothing is kept."""
    server.answer = lambda handler: handler.send(200, b"something else")
    error = refusal(server, tmp_path)
    assert (UsageError, ExitCode.USAGE) == (type(error), error.exit_code)
    assert SHA256 in str(error)
    assert hashlib.sha256(b"something else").hexdigest() in str(error)
    assert [] == leftovers(tmp_path)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, UsageError), (403, UsageError), (500, InfrastructureError), (503, InfrastructureError)]
)
def test_a_refusal_is_told(server: Server, tmp_path: Path, status: int, kind: type[SeatrialError]) -> None:
    """With its status; who is at fault says the exit code."""
    server.answer = lambda handler: handler.send(status, b"no")
    error = refusal(server, tmp_path)
    assert (kind, True) == (type(error), f"{status} " in str(error))
    assert [] == leftovers(tmp_path)


def test_an_answer_that_is_no_http(server: Server, tmp_path: Path) -> None:
    """Noise instead of a status line."""
    server.answer = lambda handler: handler.wfile.write(b"\x00\x01SSH-2.0\r\n" * 50)
    assert InfrastructureError is type(refusal(server, tmp_path))


def test_a_full_disk_keeps_nothing(server: Server, tmp_path: Path) -> None:
    """The disk's own error comes through, for the cache to explain, and the part is gone."""
    (tmp_path / f"{SHA256}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        take(server, tmp_path)
    assert [] == leftovers(tmp_path)
