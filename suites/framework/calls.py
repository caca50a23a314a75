"""Calling conventions of targets, one table per kind, as their profiles write them (layer 0: standard library only)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
class Call:
    """Calling conventions, one table per kind."""

    init: InitCall = InitCall()
    oci: OciCall = OciCall()


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The same program called with more options; shown as ``NAME+VARIANT``. Fields left out keep the target's."""

    arguments: tuple[str, ...] = ()
    call: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCall:
    """How a checkout is built where its manifest does not say enough."""

    command: tuple[str, ...] = ()
    """Replaces the tool that the manifest asks for; executed in a copy of the checkout."""
    executable: str = ""
    """File name of the program among those that the build makes; empty = `binary`, or the only one."""
