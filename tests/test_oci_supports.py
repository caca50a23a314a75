"""A profile says which newer parts of the configuration its runtime applies, and since when."""

from __future__ import annotations

import pytest

from suites.catalog import Kind
from suites.framework.calls import Call, OciCall
from suites.framework.oci.runtime import Runtime
from tests.contexts import target


@pytest.mark.parametrize(
    ("version", "offered"),
    [
        ("1.1.5+ds1", {"personality"}),
        ("1.2.0-rc.1", {"personality", "domainname"}),
        ("1.10", {"personality", "domainname", "scheduler"}),
        ("2", {"personality", "domainname", "scheduler"}),
        ("unknown", {"personality"}),
    ],
)
def test_what_is_newer_than_the_version_is_not_offered(version: str, offered: set[str]) -> None:
    """Versions are compared by their numbers, 1.10 after 1.9; one that nobody knows is older than all."""
    call = Call(oci=OciCall(supports=("domainname 1.2", "personality", "scheduler 1.9")))
    runtime = target("runtime", kind=Kind.OCI, version=version, call=call)
    assert offered == Runtime.offers(runtime) & {"domainname", "personality", "scheduler"}
