"""Packages, versions, commands and the payload: real tools where they are, and truly absent ones."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest

from suites.framework.errors import InfrastructureError
from suites.framework.facts import Fact, Missing
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.command import NOT_STARTED, Completed, run
from suites.framework.provisioning.debian import DAY_S, Packages, Provisioned, probe_packages
from suites.framework.provisioning.payload import payload, probe_compiler
from suites.framework.provisioning.version import UNKNOWN, version

ROOT = Path(__file__).parent.parent
HAVE_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
WALLED = run(
    ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-current-user")), "--pid", "--fork", "true"),
    deadline_s=5,
).ok
NEEDS_WALL = pytest.mark.skipif(not WALLED, reason="no PID namespace can be made here")


# ---- command


def python(code: str, **options: float) -> Completed:
    return run([sys.executable, "-c", code], **{"deadline_s": 20.0, **options})  # type: ignore[arg-type]


def test_command_gives_status_and_both_streams() -> None:
    """What it wrote and how it ended."""
    done = python("import sys; print('out'); print('E: why', file=sys.stderr); sys.exit(3)")
    assert (done.code, done.stdout, done.stderr, done.ok, done.late) == (3, "out\n", "E: why\n", False, False)
    assert done.complaint == "E: why"


def test_command_that_cannot_be_started_is_a_value() -> None:
    """No traceback for a missing tool."""
    done = run(["/nowhere/tool"], deadline_s=5)
    assert (done.code, done.ok) == (NOT_STARTED, False)
    assert "No such file" in done.complaint


def test_output_is_capped_and_drained() -> None:
    """A flood neither fills memory nor blocks the writer."""
    done = python("import sys; sys.stdout.write('x' * (1 << 22))", output_bytes=1000)
    assert (done.code, len(done.stdout)) == (0, 1000)


class Witness:
    """A named pipe: whoever opens it writes a byte, and its end is the end of all who hold it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "witness"
        os.mkfifo(self.path)
        self._reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def all_gone(self, holders: int) -> bool:
        """Return whether so many had opened it and none holds it any more, within 5 s."""
        poll = select.poll()
        poll.register(self._reader, select.POLLHUP)
        ended = bool(poll.poll(5000))
        seen = os.read(self._reader, 100)
        os.close(self._reader)
        return ended and len(seen) == holders


HANG = "import os, signal, sys\nif os.fork() == 0: {0}\nos.write(os.open({1!r}, os.O_WRONLY), b'x')\nsignal.pause()\n"


def test_a_hanging_command_is_killed_with_its_children(tmp_path: Path) -> None:
    """At the deadline the whole process group goes."""
    witness = Witness(tmp_path)
    done = python(HANG.format("pass", str(witness.path)), deadline_s=0.5)
    assert (done.late, done.ok, done.complaint) == (True, False, "no answer within its deadline")
    assert witness.all_gone(2)


def test_a_grandchild_that_keeps_the_streams_open_is_not_waited_for() -> None:
    """End of file is not exit: the command's end counts."""
    done = python("import os, signal\nif os.fork() == 0: signal.pause()\nprint('out', flush=True)")
    assert (done.ok, done.stdout) == (True, "out\n")


# ---- version


def script(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@NEEDS_WALL
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo; echo ' mine 1.2 '; echo more", "1.2"),
        ("echo mine 1.3 >&2", "1.3"),
        (r"printf '\033[1mmine\033[0m\a 1.4\n'", "1.4"),
        (r"printf '\033[1mmine\033[0m\a four\n'", "mine four"),
        ("echo tini version 0.19.0 - git.de40ad0", "0.19.0"),
        ("echo runc version 1.1.5+ds1, built today", "1.1.5+ds1"),
        ("echo mine v2.0-rc.1 '(linked with libc 2.36)'", "2.0-rc.1"),
        ("echo mine 7", "mine 7"),
        ("echo mine 1.2; exit 1", UNKNOWN),
        ("exit 0", UNKNOWN),
    ],
)
def test_version_is_that_of_the_first_line(tmp_path: Path, text: str, expected: str) -> None:
    """Standard output before error output, without control characters; a failure is unknown."""
    assert version([script(tmp_path, f"#!/bin/sh\n{text}\n")]) == expected


BESIEGED = """
import os, signal, sys
if os.getpid() != 1:
    sys.exit("not in a PID namespace of its own: the target is not started")
bystander = os.fork()
if bystander == 0:
    while True: signal.pause()
from suites.framework.provisioning.version import version
print(version([sys.argv[1]]), os.waitpid(bystander, os.WNOHANG)[0])
"""


@NEEDS_WALL
def test_version_that_kills_everybody_reaches_nobody(tmp_path: Path) -> None:
    """kill(-1) stays behind the wall: a bystander outside it lives on.

    The whole test has a namespace of its own, and refuses to go on without: were the wall broken, its target
    would otherwise end every process of the machine.
    """
    path = script(tmp_path, "#!/bin/sh\nkill -9 -1\necho survived\n")
    outer = (
        "unshare",
        *(() if os.geteuid() == 0 else ("--user", "--map-current-user")),
        "--pid",
        "--fork",
        "--kill-child",
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = run([*outer, sys.executable, "-c", BESIEGED, path], deadline_s=20, environment=variables)
    assert (done.stdout, done.stderr) == ("survived 0\n", "")


@NEEDS_WALL
def test_version_that_hangs_is_unknown_and_gone(tmp_path: Path) -> None:
    """A daemon that it leaves in a session of its own goes with its namespace."""
    witness = Witness(tmp_path)
    text = f"#!{sys.executable}\n" + HANG.format("os.setsid()", str(witness.path))
    assert version([script(tmp_path, text)], deadline_s=0.5) == UNKNOWN
    assert witness.all_gone(2)


@NEEDS_WALL
def test_version_sees_only_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target's variables reach it and ours do not."""
    monkeypatch.setenv("SECRET", "x")
    path = script(tmp_path, '#!/bin/sh\necho "${MINE-none} ${SECRET-none}"\n')
    assert version([path], environment={"MINE": "1"}) == "1 none"


def test_version_of_nothing_is_unknown() -> None:
    """A program that is gone is no error."""
    assert version(["/nowhere/program"]) == UNKNOWN


# ---- payload


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    said: list[str] = []
    return Cache(tmp_path / "cache", say=said.append)


@pytest.fixture
def fixtures(tmp_path: Path) -> Path:
    """Return a fixtures folder with a tiny payload."""
    folder = tmp_path / "fixtures/payloads"
    folder.mkdir(parents=True)
    (folder / "payload.c").write_text("int main(void) { return 7; }\n")
    (folder / "payload.py").write_text("raise SystemExit(7)\n")
    return folder.parent


class Counting:
    """Runs for real and remembers the programs."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.temporary: list[str] = []

    def __call__(self, argv: list[str], **options: Any) -> Completed:
        """Run and remember."""
        self.calls.append(list(argv))
        self.temporary.append((options.get("environment") or os.environ).get("TMPDIR", ""))
        return run(argv, **options)

    def count(self, word: str) -> int:
        """Return how often it was called so."""
        return sum(word in call for call in self.calls)


@HAVE_COMPILER
def test_payload_is_compiled_once(cache: Cache, fixtures: Path) -> None:
    """The first use compiles, the second only asks the compiler's version; another source is another entry."""
    counting = Counting()
    (first,) = payload(fixtures, cache=cache, run=counting)
    assert run([first], deadline_s=5).code == 7
    compiled = counting.count("-O2")
    assert payload(fixtures, cache=cache, run=counting) == (first,)
    assert counting.count("-O2") == compiled > 0
    (fixtures / "payloads/payload.c").write_text("int main(void) { return 8; }\n")
    assert payload(fixtures, cache=cache) != (first,)


@HAVE_COMPILER
def test_a_compiler_that_is_killed_leaves_nothing_in_the_temporary_folder(cache: Cache, fixtures: Path) -> None:
    """What compilers write meanwhile is in folders that are removed: of the cache, or a marked one."""
    counting = Counting()
    payload(fixtures, cache=cache, run=counting)
    folders = [Path(at) for call, at in zip(counting.calls, counting.temporary, strict=True) if "-O2" in call]
    assert folders
    for folder in folders:
        assert cache.root in folder.parents or folder.name.startswith("seatrial-compiler-"), folder
        assert not folder.exists()


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false", "true", "'"])
def test_without_a_compiler_the_twin_is_used(cache: Cache, fixtures: Path, compiler: str) -> None:
    """A compiler that is missing, fails or makes nothing gives the Python twin, and the fact is absent."""
    environ = {"SEATRIAL_CC": compiler, "CC": "cc"}
    assert payload(fixtures, cache=cache, environ=environ) == (
        "{python}",
        "-I",
        "-S",
        str(fixtures / "payloads/payload.py"),
    )
    finding = probe_compiler(environ=environ)
    assert (finding.fact, finding.present) == (Fact.COMPILER, False)
    assert finding.missing is not None
    assert "SEATRIAL_CC" in finding.remedy


@HAVE_COMPILER
@pytest.mark.parametrize("environ", [{}, {"CC": "cc"}, {"SEATRIAL_CC": "cc -g", "CC": "false"}])
def test_compiler_is_probed_by_compiling(environ: Mapping[str, str]) -> None:
    """The user's word comes first, then CC, then the usual names."""
    finding = probe_compiler(environ=environ)
    assert finding.present
    assert finding.probe == ("cc -g probe.c" if environ.get("SEATRIAL_CC") else "cc probe.c")


@HAVE_COMPILER
def test_a_payload_that_does_not_compile_is_said(cache: Cache, fixtures: Path) -> None:
    """A working compiler that refuses our source is no reason to fall back in silence."""
    (fixtures / "payloads/payload.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(InfrastructureError, match=r"does not compile: .*payload\.c.*nothing"):
        payload(fixtures, cache=cache)


# ---- packages: a distribution made of files


class Apt:
    """Answers as apt-get and dpkg-deb do, from a table of packages, and counts."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.online = True
        self.listed = True
        self.needed = ["libslirp0_4.7-1_amd64.deb"]
        self.calls: list[str] = []

    def __call__(self, argv: list[str], *, cwd: Path | None = None, **_: object) -> Completed:
        """Answer, and remember what was asked."""
        self.calls.append(" ".join(word for word in argv if word in ("update", "download", "install", "-x")))
        if argv[0] == "dpkg-deb":
            return self.extract(Path(argv[2]), Path(argv[3]))
        if "update" in argv:
            self.listed = self.listed or self.online
            noise = "" if self.online else "W: Failed to fetch http://deb/InRelease  Temporary failure resolving\n"
            return Completed(code=0, stderr=noise)
        if not self.listed:
            return Completed(code=100, stderr="E: Unable to locate package tool\n")
        if "--print-uris" in argv:
            files = ["tool_1%3a2.0-1_amd64.deb", *(self.needed if "install" in argv else [])]
            return Completed(code=0, stdout="".join(f"'http://deb/{name}' {name} 12 SHA256:0\n" for name in files))
        if not self.online:
            return Completed(code=100, stderr="E: Failed to fetch http://deb/tool.deb\n")
        assert cwd is not None
        name = argv[-1].split("=")[0]
        (cwd / f"{name}.deb").write_text(name)
        return Completed(code=0)

    def extract(self, archive: Path, root: Path) -> Completed:
        """Unpack as dpkg-deb -x does."""
        name = "usr/bin/tool" if archive.stem == "tool" else "usr/lib/x86_64-linux-gnu/libslirp.so.0"
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(name)
        (root / name).chmod(0o755)
        return Completed(code=0)

    def count(self, word: str) -> int:
        """Return how often it was called so."""
        return self.calls.count(word)


@pytest.fixture
def apt(cache: Cache) -> Apt:
    """Return a pretended distribution that answers."""
    return Apt(cache)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put something called apt-get on PATH, so that these tests run on any Linux."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("apt-get", "dpkg", "dpkg-deb"):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def packages(apt: Apt, now: float = 1e9, **options: bool) -> Packages:
    return Packages(apt.cache, run=apt, clock=lambda: now, status=Path("/nowhere"), **options)


@pytest.mark.usefixtures("tools")
def test_package_and_lacking_library_are_unpacked(apt: Apt) -> None:
    """The program comes from its own entry, the library from another, reached by a variable of this program only."""
    got = packages(apt).provision("tool", "tool")
    root = apt.cache.root / "packages"
    assert got == Provisioned(
        path=root / "tool_1%3a2.0-1_amd64/root/usr/bin/tool",
        version="1:2.0-1",
        environment={"LD_LIBRARY_PATH": str(root / "libslirp0_4.7-1_amd64/root/usr/lib/x86_64-linux-gnu")},
    )


@pytest.mark.usefixtures("tools")
def test_nothing_lacking_means_no_variable(apt: Apt) -> None:
    """A program whose libraries are all here runs as it is."""
    apt.needed = []
    got = packages(apt).provision("tool", "tool")
    assert isinstance(got, Provisioned)
    assert got.environment == {}


@pytest.mark.usefixtures("tools")
def test_a_day_passes_between_two_updates(apt: Apt) -> None:
    """Within a day nothing is asked at all; afterwards the lists are renewed, and nothing is downloaded twice."""
    packages(apt).provision("tool", "tool")
    asked = len(apt.calls)
    packages(apt, now=1e9 + DAY_S - 1).provision("tool", "tool")
    assert (len(apt.calls), apt.count("update")) == (asked, 1)
    packages(apt, now=1e9 + DAY_S + 1).provision("tool", "tool")
    assert (apt.count("update"), apt.count("-x")) == (2, 2)


@pytest.mark.usefixtures("tools")
def test_packages_installed_since_are_noticed(apt: Apt, tmp_path: Path) -> None:
    """A change of the machine's packages asks again which libraries are lacking."""
    packages(apt).provision("tool", "tool")
    status = tmp_path / "status"
    status.write_text("")
    os.utime(status, (1e9 + 5, 1e9 + 5))
    apt.needed = []
    got = Packages(apt.cache, run=apt, clock=lambda: 1e9 + 9, status=status).provision("tool", "tool")
    assert isinstance(got, Provisioned)
    assert got.environment == {}
    assert apt.count("update") == 1


@pytest.mark.usefixtures("tools")
def test_old_lists_are_renewed_when_a_package_is_not_found(apt: Apt) -> None:
    """Lists of today that lack the package are renewed once."""
    os.utime(apt.cache.write("apt/updated", ""), (1e9, 1e9))
    apt.listed = False
    assert isinstance(packages(apt).provision("tool", "tool"), Provisioned)
    assert apt.count("update") == 1


@pytest.mark.usefixtures("tools")
def test_without_network_the_reason_is_the_networks(apt: Apt) -> None:
    """apt-get update succeeds without a network; its warning is the reason, and it is tried once a run."""
    apt.online = apt.listed = False
    mine = packages(apt)
    for _ in range(2):
        got = mine.provision("tool", "tool")
        assert isinstance(got, Missing)
        assert got.fact is Fact.PACKAGES
        assert got.reason.startswith("apt-get update: Failed to fetch http://deb/InRelease Temporary failure")
        assert "install tool" in got.remedy
    assert apt.count("update") == 1
    assert not (apt.cache.root / "apt/updated").exists()


@pytest.mark.usefixtures("tools")
def test_without_network_an_old_package_still_serves(apt: Apt) -> None:
    """What the cache has is used when it cannot be renewed."""
    packages(apt).provision("tool", "tool")
    apt.online = apt.listed = False
    assert isinstance(packages(apt, now=1e9 + 9 * DAY_S).provision("tool", "tool"), Provisioned)


@pytest.mark.usefixtures("tools")
def test_offline_asks_nobody(apt: Apt) -> None:
    """``--offline`` takes the cache's package of any age, else says so."""
    got = packages(apt, offline=True).provision("tool", "tool")
    assert isinstance(got, Missing)
    assert "--offline" in got.reason
    assert apt.calls == []
    packages(apt).provision("tool", "tool")
    asked = len(apt.calls)
    later = packages(apt, now=1e9 + 99 * DAY_S, offline=True)
    assert isinstance(later.provision("tool", "tool"), Provisioned)
    assert len(apt.calls) == asked


@pytest.mark.usefixtures("tools")
def test_a_corrupted_package_is_downloaded_again(apt: Apt) -> None:
    """Verified on every use."""
    got = packages(apt).provision("tool", "tool")
    assert isinstance(got, Provisioned)
    got.path.write_text("damaged")
    assert packages(apt).provision("tool", "tool") == got
    assert got.path.read_text() == "usr/bin/tool"


@pytest.mark.usefixtures("tools")
def test_a_package_without_the_program_is_missing(apt: Apt) -> None:
    """Another binary than the profile says."""
    got = packages(apt).provision("tool", "other")
    assert isinstance(got, Missing)
    assert "has no program other" in got.reason


def test_other_systems_are_told(cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without apt-get the fact is absent, with the reason and what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = probe_packages(Packages(cache))
    assert not finding.present
    assert "apt-get is not on PATH" in finding.detail
    assert "--target NAME=PATH" in finding.remedy


# ---- packages: the real thing

_ONLINE: list[str] = []


@pytest.fixture
def online(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Return a cache that the distribution could fill, or skip with the reason."""
    if not _ONLINE:
        folder = tmp_path_factory.mktemp("packages")
        finding = probe_packages(Packages(Cache(folder)))
        _ONLINE.extend([str(folder), "" if finding.present else finding.detail])
    if _ONLINE[1]:
        pytest.skip(f"no packages of the distribution: {_ONLINE[1]}")
    return Cache(Path(_ONLINE[0]))


def test_a_real_package_runs(online: Cache) -> None:
    """Package tini is downloaded, unpacked and started."""
    got = Packages(online).provision("tini", "tini")
    assert isinstance(got, Provisioned)
    assert (
        run(
            [str(got.path), "--", "sh", "-c", "exit 7"], deadline_s=5, environment={**os.environ, **got.environment}
        ).code
        == 7
    )


def test_a_real_package_that_does_not_exist(online: Cache) -> None:
    """The reason is apt's own."""
    got = Packages(online).provision("seatrial-no-such-package", "x")
    assert isinstance(got, Missing)
    assert "seatrial-no-such-package" in got.reason


@pytest.mark.usefixtures("online")
def test_an_ordinary_user_provisions_too() -> None:
    """No step needs root: the same as another user with an empty cache of its own."""
    interpreter = "/usr/bin/python3"
    if os.geteuid() != 0:
        pytest.skip("already an ordinary user: the other tests show it")
    if shutil.which("setpriv") is None or not Path(interpreter).exists():
        pytest.skip("setpriv or /usr/bin/python3 is not here")
    with tempfile.TemporaryDirectory(prefix="seatrial-") as name:
        home = Path(name)
        shutil.copytree(ROOT / "suites", home / "site/suites", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(Path(filelock.__file__).parent, home / "site/filelock")
        for path in (home, *home.rglob("*")):
            os.chown(path, 65534, 65534)
        code = (
            "import os; from pathlib import Path; from suites.framework.provisioning.cache import Cache;"
            "from suites.framework.provisioning.debian import Packages;"
            "print(os.geteuid(), Packages(Cache()).provision('dumb-init', 'dumb-init').path)"
        )
        words = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", interpreter, "-B", "-c", code)
        variables = {"HOME": name, "PATH": os.environ["PATH"], "PYTHONPATH": f"{name}/site"}
        done = subprocess.run(words, env=variables, cwd="/", capture_output=True, text=True, check=False, timeout=120)
        assert done.stderr == ""
        uid, found = done.stdout.split()
        assert (uid, Path(found).stat().st_uid) == ("65534", 65534)
        assert found.startswith(f"{name}/.cache/seatrial/packages/dumb-init_")


@pytest.mark.usefixtures("online")
def test_two_runs_at_once_download_once(tmp_path: Path) -> None:
    """The second waits for the first and takes its lists and its package."""
    code = (
        "import sys; from pathlib import Path; from suites.framework.provisioning.cache import Cache;"
        "from suites.framework.provisioning.debian import Packages;"
        "from suites.framework.provisioning.command import run\n"
        "def counted(argv, **options):\n"
        "    if '--print-uris' not in argv: print(*{'update', 'download', '-x'} & set(argv))\n"
        "    return run(argv, **options)\n"
        f"Packages(Cache(Path({str(tmp_path / 'cache')!r})), run=counted).provision('dumb-init', 'dumb-init').path"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0]
    assert b"".join(said).split() == [b"update", b"download", b"-x"]
