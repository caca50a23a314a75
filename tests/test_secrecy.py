"""What the user gives a target in its environment stands in no report."""

from __future__ import annotations

from dataclasses import replace

from suites.catalog import Kind
from suites.framework.model import Ended, Evidence, Note, Outcome, Profile, Role, Target
from suites.framework.secrecy import Secrets

TARGET = Target(
    name="mine",
    kind=Kind.INIT,
    role=Role.TARGET,
    argv=("/mine",),
    path="/mine",
    sha256="",
    version="",
    profile=Profile(),
)
ENDED = Ended(
    node="n",
    outcome=Outcome.FAILED,
    message="a hunter2secret b",
    expected="hunter2secret",
    actual="hunter2secret-longer",
    evidence=(Evidence(title="stderr", text="x\nTOKEN=hunter2secret\n"),),
)


def secrets(**environment: str) -> Secrets:
    return Secrets([replace(TARGET, environment=environment)])


def test_a_value_is_replaced_by_its_name_everywhere() -> None:
    """In every text of a verdict, the longer of two values first."""
    hidden = secrets(TOKEN="hunter2secret", LONG="hunter2secret-longer").hidden(ENDED)
    assert isinstance(hidden, Ended)
    assert ("a ${TOKEN} b", "${TOKEN}", "${LONG}") == (hidden.message, hidden.expected, hidden.actual)
    assert "x\nTOKEN=${TOKEN}\n" == hidden.evidence[0].text


def test_measured_values_are_searched_too() -> None:
    """Whatever shape they have."""
    note = Note(name="env", value={"hunter2secret": ["hunter2secret", ("x hunter2secret", 3)]})
    hidden = secrets(TOKEN="hunter2secret").hidden(note)
    assert Note(name="env", value={"${TOKEN}": ["${TOKEN}", ["x ${TOKEN}", 3]]}) == hidden


def test_short_values_and_our_own_paths_are_shown() -> None:
    """A word such as debug is no secret, and hiding it would spoil other texts."""
    shown = secrets(RUST_LOG="hunter2", LD_LIBRARY_PATH="hunter2secret").hidden(ENDED)
    assert ENDED == shown
