"""Outcomes, events, targets and the context of a worker, as typed, versioned data (layer 0: standard library only)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from suites.catalog import Kind, Mode
from suites.framework.calls import BuildCall, Call, Variant
from suites.framework.facts import Fact, Finding

SCHEMA = 1
"""The version of every persisted type in this module; a reader refuses a newer one by name."""


class Outcome(StrEnum):
    """How a node ended."""

    PASSED = "passed"
    FAILED = "failed"
    XFAILED = "xfailed"
    XPASSED = "xpassed"
    SKIPPED = "skipped"
    ERRORED = "errored"


class Reason(StrEnum):
    """Why a node did not simply pass; a missing fact is written ``missing:FACT``."""

    NOT_OFFERED = "not-offered"
    INCONCLUSIVE = "inconclusive"
    PRECLUDED = "precluded"
    TIMEOUT = "timeout"
    SILENCE = "silence"
    LEAK = "leak"
    CRASH = "crash"
    SIGNAL = "signal"
    EXIT = "exit"
    OOM = "oom"
    DISK_FULL = "disk-full"
    HOOK = "hook"
    NOT_STARTED = "not-started"
    INTERRUPTED = "interrupted"


MISSING = "missing:"
"""Prefix of the reason of a skip for a missing fact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One piece of what was seen: a title and verbatim text (captured output, signal log, process states)."""

    title: str
    text: str


# ---- events: <environment>/events/<phase>.<worker>.jsonl -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """First event of a worker: who it is, as the kernel says."""

    schema: int
    run: str
    environment: str
    phase: str
    worker: str
    pid: int
    uid: int
    cap_eff: str
    """CapEff of /proc/self/status, 16 hexadecimal digits."""
    uid_map: str
    """Content of /proc/self/uid_map, white space folded."""
    container: str
    """The container's id, or empty on the host."""
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A node that will run; one without an `Ended` is an error."""

    node: str
    cases: tuple[str, ...]
    target: str
    kind: str
    mode: str
    title: str
    file: str
    line: int
    requires: tuple[str, ...] = ()
    parameter: str = ""
    standby: bool = False
    """True for a reference that runs only because a target failed this case."""
    weight: int = 1
    """About how many times as long as most it takes."""
    tier: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A node's set-up has begun."""

    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A node's verdict, with everything a reader needs to believe it. Times in seconds, memory in bytes."""

    node: str
    outcome: Outcome
    reason: str = ""
    message: str = ""
    expected: str = ""
    actual: str = ""
    evidence: tuple[Evidence, ...] = ()
    wall_s: float = 0.0
    target_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes: int = 0
    """Of the largest process; 0 where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A measured value, of a node or (without one) of the worker."""

    name: str
    value: Any
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Last event of a worker that ended by itself: number of nodes by outcome."""

    counts: dict[str, int]


Event = Begun | Planned | Started | Ended | Note | Finished
EVENTS: dict[str, type[Event]] = {
    "begun": Begun,
    "planned": Planned,
    "started": Started,
    "ended": Ended,
    "note": Note,
    "finished": Finished,
}
"""The value of key ``event`` in a line of an event file, and its type."""


# ---- metrics: <environment>/metrics/<phase>.jsonl --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one step used at one moment, with everything below it. Seconds, bytes and counts."""

    t: float
    """Unix seconds, on the clock of the events."""
    step: str
    """A worker (``test.1``), a step of a build (``build::tini::cmake``), or of a package that a wrapper builds
    (``package::WRAPPER::ed::check``)."""
    node: str = ""
    """The case that the worker was at, where it took long enough to be seen."""
    cpu_s: float
    """User and system time so far of all that lives, what was reaped included as far as the kernel tells."""
    rss_bytes: int
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What one step used from its beginning to its end."""

    t: float
    step: str
    wall_s: float
    cpu_s: float
    rss_bytes: int
    """The highest resident set: of one process by wait4(2), of all together by a cgroup."""
    source: str
    """``wait4`` or ``cgroup``."""


PACKAGE_STEP = "package::{wrapper}::{package}::{step}"
"""The name of a step by which a wrapper builds a package."""
PACKAGE_TESTS = "package_tests"
"""Name of the note that says how the package's own tests ended: ``package``, and a number for each outcome."""
METRICS: dict[str, type[Sample | Total]] = {"sample": Sample, "total": Total}
"""The value of key ``metric`` in a line of a metrics file, and its type."""


# ---- targets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A known difference from what a case asserts; noticed when it goes away."""

    case: tuple[str, ...]
    """Ids of the cases that it is seen in, each by itself."""
    observed: str
    """The `actual` of the failure, literally; ``{parameter}`` stands for the node's parameter."""
    reason: str
    or_observed: tuple[str, ...] = ()
    """What else is seen where the target races with itself; ``as the case asks``: it may also pass."""
    source: str = ""
    environment: tuple[str, ...] = ()
    """Environments in which it holds; empty = all. Also the other scopes."""
    mode: tuple[str, ...] = ()
    parameter: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    """Prefixes of the target's version."""
    variant: tuple[str, ...] = ()
    """Names of variants; the bare target is written ``-``."""
    test: tuple[str, ...] = ()
    """Names of test functions, where several tests are one case and not all of them fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A target that must fail: per mode the cases, or ``*`` for every one."""

    reason: str
    plain: tuple[str, ...] = ()
    pid1: tuple[str, ...] = ()
    docker: tuple[str, ...] = ()
    cli: tuple[str, ...] = ()
    cri: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a target's TOML file says."""

    schema: int = SCHEMA
    name: str = ""
    title: str = ""
    kinds: tuple[Kind, ...] = (Kind.INIT,)
    reference_for: tuple[Kind, ...] = ()
    package: dict[str, str] = field(default_factory=dict)
    """Package that holds it, per distribution id of os-release(5)."""
    binary: str = ""
    """File name on PATH or in the package; one with a slash is a path below fixtures/, an embedded target."""
    command: tuple[str, ...] = ()
    """Words that start it: ``{binary}`` stands for the staged binary, ``{python}`` for the worker's interpreter;
    without them the binary is executed. The command under test follows."""
    version: tuple[str, ...] = ()
    """Arguments that make it print its version."""
    siblings: tuple[str, ...] = ()
    build: BuildCall = field(default_factory=BuildCall)
    call: Call = field(default_factory=Call)
    limits: dict[str, float] = field(default_factory=dict)
    variant: dict[str, Variant] = field(default_factory=dict)
    deviation: tuple[Deviation, ...] = ()
    control: Control | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSuite:
    """How one suite of a target's own tests ended."""

    name: str
    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...] = ()
    """Names of those that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTests:
    """What the own tests of a target came to where it was built."""

    suites: tuple[OwnSuite, ...] = ()
    trouble: str = ""
    """Why they could not be run; empty where they were."""


class Role(StrEnum):
    """What a target is in this run."""

    TARGET = "target"
    REFERENCE = "reference"
    CONTROL = "control"
    STANDBY = "standby"
    """A reference that was not asked for: it runs only the cases that a target failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A staged program under test, ready to be called in any environment."""

    name: str
    """As shown, the variant included: ``tini+g``."""
    kind: Kind
    role: Role
    argv: tuple[str, ...]
    """The words that start it, up to and including variant options, before calling options and the command.
    The word ``{python}`` stands for the worker's interpreter."""
    path: str
    """What the user gave or where it was found."""
    sha256: str
    version: str
    profile: Profile
    variant: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables for this target only (LD_LIBRARY_PATH of a provisioned one, ``--target-env``)."""
    wrap: tuple[str, ...] = ()
    """Words in front of argv; ``{evidence}`` stands for the node's folder of artefacts."""
    call: Call = field(default_factory=Call)
    """The profile's conventions with the variant's laid over them."""
    only: tuple[str, ...] = ()
    """Case ids that this target is tried with, whatever the selection is; empty = all."""
    own_tests: OwnTests | None = None
    """Of the checkout that it was built from; None where there is none, or its profile names none."""


# ---- context.json ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which cases of which suites."""

    kinds: tuple[Kind, ...] = tuple(Kind)
    cases: tuple[str, ...] = ()
    expression: str = ""
    tier: int = 3
    pod_tier: int = 3
    """That of kind pod."""
    nodes: tuple[str, ...] = ()
    """Exact node ids (without the repetition), as ``--failed`` finds them; empty = all."""
    repeat: int = 1
    exitfirst: bool = False
    shard: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a worker holds its targets to. Seconds, bytes and counts."""

    deadline_s: float = 2.0
    """Least liveness deadline of one observation."""
    node_s: float = 60.0
    """The launcher ends a worker whose node takes longer."""
    output_bytes: int = 65536
    """Kept of each captured stream: half from its head, half from its tail."""
    processes: int = 1024
    """Of one worker and all below it: a fork bomb in one must not starve the others."""
    memory_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """The programs of a container engine, staged, and what is needed to talk with it."""

    containerd: str
    ctr: str
    version: str
    """As it prints it."""
    stubs: str
    """Folder of the generated messages of its interface."""
    plugins: str = ""
    """Folder of the plugins that give pods a network; empty where there are none."""
    environment: dict[str, str] = field(default_factory=dict)
    """LD_LIBRARY_PATH for it alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where things are; the same in every environment, because containers mount them where they are on the host."""

    suites: str
    """Folder that holds ``suites/`` and ``fixtures/``, read-only."""
    run: str
    """<run>/<environment>, read-write."""
    events: str
    """The event file of this worker, which exists."""
    scratch: str
    """Short private folder of this worker, read-write."""
    payload: tuple[str, ...]
    """Words that start the payload: the compiled one, or ``{python}`` and the twin."""
    rootfs: str = ""
    """A root file system for containers, read-only; empty where there is none."""
    sources: tuple[str, ...] = ()
    """Source archives of packages, read-only."""
    metrics: str = ""
    """The metrics file of this worker, which exists, for what its cases measure; empty where nobody wants to know."""
    engine: EnginePlace | None = None
    """Of kind pod; None where no pods are planned, or there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that crosses the boundary into an environment."""

    schema: int
    run: str
    environment: str
    phase: str
    worker: int
    workers: int
    selection: Selection
    targets: tuple[Target, ...]
    findings: tuple[Finding, ...]
    promises: tuple[Fact, ...]
    limits: Limits
    paths: Paths
    image: str = ""
    """Container image for cases that call the docker command; empty where there is none."""
    image_mounts: tuple[str, ...] = ()
    """Host paths that containers of this image need, read-only at the same place."""
    launcher: str = ""
    """Who the launcher is, for the label of every container that a case starts."""
    modes: tuple[Mode, ...] = tuple(Mode)
