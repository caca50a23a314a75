"""The variables that a build gets: few, named here, and none by inheritance (layer 2)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from suites.framework.build.user import Builder

KNOBS = (
    *("CC", "CXX", "CPPFLAGS", "CFLAGS", "CXXFLAGS", "LDFLAGS", "PKG_CONFIG", "PKG_CONFIG_PATH"),
    *("CARGO_BUILD_TARGET", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"),
    *("CGO_ENABLED", "CGO_CFLAGS", "CGO_LDFLAGS", "GOFLAGS", "GOTOOLCHAIN"),
)
"""With what a caller tunes a build: another value gives another result."""
NETWORK = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "GOPROXY", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "RUSTUP_AUTO_INSTALL"),
)
OWN = (
    "CARGO_HOME",
    "RUSTUP_HOME",
    "GOPATH",
    "GOCACHE",
    "GOMODCACHE",
    "GOENV",
    "GOROOT",
    "XDG_CACHE_HOME",
    "CCACHE_DIR",
)
"""Where the caller's own tools keep things: another user can neither read nor write there."""


def variables(builder: Builder, work: Path, *, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return all variables for a build in the folder ``work``."""
    names = (*KNOBS, *NETWORK, *(OWN if builder.own else ()))
    return {
        **{name: environ[name] for name in names if environ.get(name)},
        "PATH": environ.get("PATH", os.defpath),
        "HOME": _home(builder, work, environ),
        "USER": builder.user.name,
        "LOGNAME": builder.user.name,
        "SHELL": "/bin/sh",
        "TMPDIR": str(work / "tmp"),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "CARGO_TERM_COLOR": "never",
        "GIT_TERMINAL_PROMPT": "0",
    }


def knobs(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the caller's variables that change what is built."""
    return {name: environ[name] for name in KNOBS if environ.get(name)}


def _home(builder: Builder, work: Path, environ: Mapping[str, str]) -> str:
    """Return the builder's home, where downloads are kept; an empty folder for accounts that have none."""
    home = Path(environ.get("HOME") or builder.user.home) if builder.own else Path(builder.user.home)
    usable = home.is_dir() and home.stat().st_uid == builder.user.uid
    return str(home if usable else work / "home")
