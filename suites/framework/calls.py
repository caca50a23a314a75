"""Calling conventions of targets, one table per kind, as their profiles write them (layer 0: standard library only)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


def interpreted(words: Iterable[str], python: str) -> list[str]:
    """Return a command's words with ``{python}`` replaced by an interpreter."""
    return [python if word == "{python}" else word for word in words]


@dataclass(frozen=True, slots=True, kw_only=True)
class InitCall:
    """How an init is called and what it offers."""

    separator: str = ""
    """Word between the options and the command, such as ``--``."""
    subreaper: tuple[str, ...] = ()
    """Options that make it adopt orphans when it is not PID 1; empty when it always does or never does."""
    adopts: bool = True
    """Whether it can adopt orphans when it is not PID 1."""
    delivery: str = "child"
    """``child`` or ``group``: who receives a forwarded signal."""
    fence: int = 64
    """The highest signal that it is known to forward: ends a proof of absence."""
    graceful: tuple[str, ...] = ()
    """Options that set the time from TERM to KILL, ``{seconds}`` standing for it; empty = no escalation offered."""
    ports: tuple[str, ...] = ()
    """Options that make it listen at ``{ports}`` (joined by commas) and name the sockets in SCINIT_INHERITED_FDS."""
    listen_fds: tuple[str, ...] = ()
    """The same, but the sockets are named as systemd does it: LISTEN_FDS, LISTEN_PID (sd_listen_fds(3))."""
    reload: tuple[str, ...] = ()
    """Options that make it restart a command that has changed, ``{debounce_ms}`` after the last change and
    ``{delay_ms}`` after the end of the one before; empty = not offered."""
    watch: tuple[str, ...] = ()
    """Options that have it watch ``{path}`` instead of the command; empty = not offered."""
    rewrite: tuple[str, ...] = ()
    """Options that forward signal ``{to}`` where ``{from}`` came, nothing for 0; empty = not offered."""
    remap: tuple[str, ...] = ()
    """Options that make it exit 0 where its child's code is ``{code}``; empty = not offered."""
    tstp: str = "forwarded"
    """What its child sees of a TSTP: ``forwarded``, ``stopped`` (it gets STOP instead) or ``ignored``."""
    suspends: bool = False
    """Whether TSTP, once dealt with, stops the init itself where it is not PID 1, which the kernel does not stop."""
    permutes: bool = False
    """Whether it takes options that stand behind the command for its own (getopt(3) without ``+``)."""
    usage: int = 1
    """Exit code of its own usage error."""
    help: tuple[str, ...] = ()
    """Arguments that make it explain itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OciCall:
    """How an OCI runtime is called and what it offers; ``{root}``, ``{id}`` and the like stand for values.

    A command line is the words of `options`, the verb's own, then what a case adds. Its state is below ``{root}``, or
    below XDG_STATE_HOME and XDG_RUNTIME_DIR, which are always the test's own.
    """

    options: tuple[str, ...] = ("--root", "{root}")
    """Before every verb."""
    bundle: tuple[str, ...] = ("--bundle", "{bundle}")
    pid_file: tuple[str, ...] = ("--pid-file", "{pid_file}")
    console: tuple[str, ...] = ("--console-socket", "{socket}")
    """Options of create; empty = not offered."""
    kill: tuple[str, ...] = ("{id}", "{signal}")
    """What follows the verb; the signal is left out where a case leaves it out."""
    force: tuple[str, ...] = ("--force",)
    """Options of delete that end a running container first; empty = not offered."""
    verbs: tuple[str, ...] = ()
    """Verbs beyond create, start, state, kill and delete."""
    supports: tuple[str, ...] = ()
    """Parts of the specification that not every runtime has, in the words of the cases that ask for them; behind a word
    may stand the version since when, as in ``domainname 1.2``."""
    state_file: str = "{root}/{id}/state.json"
    """Where a container's state is kept, for cases that damage it; ``{state}`` and ``{runtime}`` are XDG's."""
    scratch: str = ""
    """Environment variable, if not TMPDIR, that says where it makes temporary files."""
    log: str = ""
    """A log file of its own, shown with a failure."""
    handshake_s: float = 10.0
    """The longest that one of its own calls may wait for the other side before it gives up, in seconds."""
    listens: str = ""
    """End of the path of the socket at which the init of a created container waits for start, where create returns
    before: cases wait for it then, so that this race is the failure of K11 alone, which does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildscriptsCall:
    """How a wrapper of build scripts is called and what it offers.

    A command line is the target's own words, then those of one of these. ``{root}`` stands for the folder in which it
    works, ``{step}`` for a step's name; ``{options}`` and ``{arguments}`` are words of their own that stand for any
    number of words.
    """

    run: tuple[str, ...] = ("{options}", "{root}")
    """Builds everything. With ``{step}`` in a word it builds one step, and is called for each in the order of their
    needs; without ``{arguments}`` the scripts get none (*not offered*)."""
    plan: tuple[str, ...] = ()
    """Prints the names of the steps in their order, one a line; empty = not offered. So for the next two."""
    state: tuple[str, ...] = ()
    """Prints a line for each step: its name, and a word that says how it stands."""
    clean: tuple[str, ...] = ()
    """Forgets what was built."""
    states: dict[str, str] = field(default_factory=dict)
    """Its word: ours, where they differ: ``done``, ``pending``, ``stale``, ``running``, ``exit``, ``signal``,
    ``interrupted``, ``timeout``, ``silence``, ``oom``, ``disk-full``."""
    stamp: str = ""
    """A path that is there when ``{step}`` is done, for a wrapper without `state`; with `states`, one whose first word
    is one of them, and ``failed`` is what it calls any failure."""
    state_file: str = ""
    """What says how ``{step}`` stands, for cases that damage it; empty = not offered."""
    damaged: dict[str, str] = field(default_factory=dict)
    """What becomes of a step whose `state_file` was damaged, by the name of the damage as in the case (``directory``):
    ``rebuilt``, which is also where nothing is said, or ``refused``, which is `infrastructure` with its path."""
    log: str = ""
    """Paths of the logs of ``{step}`` with ``*`` in them, the oldest first by name; empty = not offered."""
    artefacts: str = "{root}/out"
    """The folder that the scripts fill."""
    script: str = "{root}/scripts/{step}.sh"
    """Where a step's script stands."""
    sources: str = "{root}/sources"
    """The folder of the archives that steps unpack."""
    header: tuple[str, ...] = ()
    """Lines below the first one of each script; one with ``{need}`` stands there for each need, one with ``{source}``
    and ``{sha256}`` for each source."""
    folders: tuple[str, ...] = ()
    """Folders that must be there before it is called."""
    files: dict[str, str] = field(default_factory=dict)
    """Path: content of each file that must be there, too."""
    install: str = ""
    """Where a copy of the wrapper has to stand, for one that finds its root from its own place."""
    variables: dict[str, str] = field(default_factory=dict)
    """What it must find in its environment."""
    environment: tuple[str, ...] = ()
    """All that its scripts find in theirs, each ``NAME=VALUE``, beside what their shell adds; empty = not offered."""
    dry_run: tuple[str, ...] = ()
    """Options; empty = not offered, so for those that follow."""
    jobs: tuple[str, ...] = ()
    """``{jobs}``: what make(1) gets as -j."""
    timeout: tuple[str, ...] = ()
    """``{seconds}`` that a step may take in all."""
    silence: tuple[str, ...] = ()
    """``{seconds}`` that a step may take without a byte of output."""
    log_cap: tuple[str, ...] = ()
    """``{bytes}`` that are kept of a step's output."""
    memory: tuple[str, ...] = ()
    """``{kib}`` of address space for each process of a step (RLIMIT_AS)."""
    processes: tuple[str, ...] = ()
    """``{processes}`` that a step may have (RLIMIT_NPROC)."""
    disk: tuple[str, ...] = ()
    """``{kib}`` of free disk without which nothing is started."""
    ram: tuple[str, ...] = ()
    """``{kib}`` of free memory without which nothing is started."""
    tool: tuple[str, ...] = ()
    """A program, ``{tool}``, without which nothing is started."""
    chroot: tuple[str, ...] = ()
    """Runs the scripts with the root folder as theirs, with dev, proc and sys."""
    isolated: tuple[str, ...] = ()
    """Runs the scripts without a network."""
    help: tuple[str, ...] = ()
    """Words that make it explain itself."""
    offers: tuple[str, ...] = ()
    """What else it can do, in the words of the cases that ask for it: ``resume``, ``lock``, ``sources``."""
    usage: int = 64
    """Exit code of a wrong call, a script that cannot be run included."""
    plan_error: int = 65
    """Exit code of a plan that makes no sense."""
    precluded: int = 69
    """Exit code where something that it needs is missing."""
    infrastructure: int = 74
    """Exit code where its own files cannot be written."""
    locked: int = 75
    """Exit code where somebody else builds in this root."""
    race: str = ""
    """Regular expression of what it says where it has failed in a race with itself, whatever it was given. A case that
    meets it observes ``a race of its own``, which its deviation has to know; empty = it has none."""
    signals: str = "128+n"
    """How it ends where signal n ended a script: with the code ``128+n`` or ``-n`` (256 - n, as wait(2) has no negative
    ones), or by the signal, ``n``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodCall:
    """How a pod-level runtime is made known to an engine, and what it offers."""

    runtime_type: str = ""
    """Type under which an engine knows its own shim (``io.containerd.reaper.v2``). Without one the name of its program
    says it: ``containerd-shim-NAME-VERSION`` is ``io.containerd.NAME.VERSION``. A program of any other name is an OCI
    runtime, which is reached through runc's shim."""
    annotations: tuple[str, ...] = ()
    """Patterns of the pod's annotations that its shim is handed."""
    front: tuple[str, ...] = ()
    """Words in front of those of the engine's own shim, by which an OCI runtime is reached; empty for none."""
    environment: tuple[str, ...] = ()
    """Variables of its shim, ``NAME=VALUE``; ``{folder}`` stands for where the program and its siblings are."""
    same_build: tuple[str, ...] = ()
    """Siblings that must print the same version as the program itself, or it is not tried at all."""
    state: str = ""
    """Where it keeps what it knows of a container, ``{id}`` its id; looked through for what is left."""
    group: str = ""
    """The annotation by which pods of one namespace share a file system or do not; empty = they never do."""
    anchor: str = ""
    """Name of the process, one for each such group, that lives on by design (proc_pid_comm(5))."""
    anchors: str = ""
    """Folder in which each such group has one mount that stays."""
    filters: tuple[str, ...] = ()
    """Files and folders of the node that it hides from programs."""
    stubborn: bool = False
    """Whether its sandboxes do not end when an engine stops them, a known defect: their shims are ended then, and the
    cases about the end of a pod alone say so."""
    lacks: tuple[str, ...] = ()
    """What it does not have by design, of the words of the cases (`PODS`)."""
    needs: tuple[str, ...] = ()
    """What such a word asks of the environment with it, ``WORD=FACT``."""


PODS = ("pid-namespace", "capabilities", "memory-limit", "read-only-root", "volumes")
"""What a pod-level runtime has unless its profile says that it lacks it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Calling conventions, one table per kind."""

    init: InitCall = InitCall()
    oci: OciCall = OciCall()
    buildscripts: BuildscriptsCall = field(default_factory=BuildscriptsCall)
    pod: PodCall = PodCall()


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The same program called with more options; shown as ``NAME+VARIANT``. Fields left out keep the target's."""

    arguments: tuple[str, ...] = ()
    call: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCall:
    """How a checkout is built where its manifest does not say enough."""

    tests: tuple[str, ...] = ()
    """Runs tests of the checkout's own, in the same copy when it is built; what cargo says of them is counted."""
    command: tuple[str, ...] = ()
    """Replaces the tool that the manifest asks for; executed in a copy of the checkout."""
    executable: str = ""
    """File name of the program among those that the build makes; empty = `binary`, or the only one."""
