"""The workflows and their scripts: the matrix, the annotations, pinned actions, and what the linters say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from suites.catalog import ENVIRONMENTS
from suites.framework.facts import Fact

CHECKOUT = Path(__file__).parents[1]
GITHUB = CHECKOUT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SESSIONS = [
    f"acceptance-{privilege}({place})" for privilege in ("root", "rootless") for place in ("native", "container")
]
SAMPLE = [
    *({"session": name, "tags": ["acceptance"]} for name in SESSIONS),
    {"session": "build", "tags": ["acceptance"]},
    {"session": "acceptance-root(moon)", "tags": []},
    {"session": "tests", "tags": []},
]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GITHUB / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


matrix = script("matrix")
verdicts = script("annotations")


def piped(sessions: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(GITHUB / "matrix.py"), *words]
    return subprocess.run(command, input=sessions, capture_output=True, text=True, timeout=20, check=False)


# ---- matrix ----------------------------------------------------------------------------------------------------------


def test_matrix_has_exactly_the_four_acceptance_sessions() -> None:
    done = piped(json.dumps(SAMPLE))
    name, _, value = done.stdout.partition("=")
    assert (0, "matrix", "") == (done.returncode, name, done.stderr)
    include = json.loads(value)["include"]
    assert [(session, session.startswith("acceptance-root(")) for session in SESSIONS] == [
        (job["session"], job["root"]) for job in include
    ]
    assert [here.name for here in ENVIRONMENTS] == [job["environment"] for job in include]


def test_matrix_of_noxs_own_list() -> None:
    if importlib.util.find_spec("nox") is None:
        pytest.skip("nox is not installed: it is in the dependency group tests")
    command = [
        sys.executable,
        "-m",
        "nox",
        "-f",
        str(CHECKOUT / "noxfile.py"),
        "--list",
        "--json",
        "--tags",
        "acceptance",
    ]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=CHECKOUT)
    found = matrix.jobs(json.loads(listed.stdout), promises="")
    assert SESSIONS == [job["session"] for job in found]
    workflow = (GITHUB / "workflows/acceptance.yml").read_text()
    assert "nox --list --json --tags acceptance" in workflow


def test_matrix_of_chosen_environments_keeps_their_order_and_repeats_none() -> None:
    found = piped(json.dumps(SAMPLE), "rootless-native", "root-native", "rootless-native").stdout
    names = [job["environment"] for job in json.loads(found.partition("=")[2])["include"]]
    assert ["rootless-native", "root-native"] == names


@pytest.mark.parametrize(
    ("sessions", "words", "said"),
    [
        (SAMPLE, ["root-moon"], "no session for root-moon; there is: root-native"),
        ([], [], "no session is tagged acceptance"),
        (SAMPLE[4:], [], "no session is tagged acceptance"),
    ],
)
def test_empty_matrix_is_an_error_with_a_reason(sessions: list[dict[str, Any]], words: list[str], said: str) -> None:
    done = piped(json.dumps(sessions), *words)
    assert (1, "") == (done.returncode, done.stdout)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_promises_hold_in_the_environments_they_name() -> None:
    text = "# none\nroot root-native # here only\n\ndocker\nsetuid root-native root-container\n"
    assert ["root", "docker", "setuid"] == matrix.promised(text, "root-native")
    assert ["docker", "setuid"] == matrix.promised(text, "root-container")
    job = matrix.jobs(SAMPLE, promises=text, only=["root-container"])[0]
    assert "docker setuid" == job["promises"]


def test_promises_of_a_hosted_runner_are_facts() -> None:
    lines = (line.partition("#")[0].split() for line in (GITHUB / "promises").read_text().splitlines())
    words = [line for line in lines if line]
    assert [] == [fact for fact, *_ in words if fact not in set(Fact)]
    assert set() == {name for _, *names in words for name in names} - {here.name for here in ENVIRONMENTS}


# ---- annotations -----------------------------------------------------------------------------------------------------


def verdict(*offences: tuple[str, str, str], code: int = 1) -> dict[str, Any]:
    found = [{"environment": environment, "node": node, "why": why} for environment, node, why in offences]
    return {"exit_code": code, "exit": "failed", "gates": {"passed": {"offences": found}, "skips": {"offences": []}}}


def test_each_offence_is_an_error_line_and_a_target_cannot_add_one() -> None:
    lines = list(verdicts.lines(verdict(("root-native", "EX-01[a]", "actual 100%\n::set-output name=x::y\r"))))
    assert [
        "::error title=Seatrial root-native%3A passed::EX-01[a]: actual 100%25%0A::set-output name=x::y%0D"
    ] == lines


def test_error_line_points_at_the_file_of_the_case() -> None:
    (line,) = verdicts.lines(verdict(("root-native", "suites/init/test_exit.py::test_code[tini]", "failed")))
    assert line.startswith("::error file=suites/init/test_exit.py,title=Seatrial root-native%3A passed::suites/init/")
    (line,) = verdicts.lines(verdict(("root-native", "a,file=x::n", "failed")))
    assert line.startswith("::error title=")


def test_many_offences_are_counted() -> None:
    lines = list(verdicts.lines(verdict(*(("root-native", f"n{i}", "failed") for i in range(30)))))
    assert verdicts.MOST == len(lines)
    assert "::error title=Seatrial::and 21 more, see the summary" == lines[-1]


def test_red_without_an_offence_is_told_and_green_says_nothing() -> None:
    assert ["::error title=Seatrial::failed (exit 3)"] == list(verdicts.lines(verdict(code=3)))
    assert [] == list(verdicts.lines(verdict(code=0)))


def test_no_verdict_is_an_error_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == verdicts.main([str(tmp_path)])
    assert capsys.readouterr().out.startswith("::error title=Seatrial::no verdict")


@pytest.mark.parametrize(("gate", "code", "said"), [("passed", 1, 1), ("skips", 0, 0)])
def test_a_gate_that_is_named_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gate: str, code: int, said: int
) -> None:
    """Its offences alone are told, and it alone fails the step: how the run ended was said elsewhere."""
    (tmp_path / "verdict.json").write_text(json.dumps(verdict(("root-native", "n", "failed"))))
    assert code == verdicts.main([str(tmp_path), gate])
    assert said == len(capsys.readouterr().out.splitlines())


# ---- the script that runs a session ----------------------------------------------------------------------------------


def session_words(tmp_path: Path, **given: str) -> tuple[int, list[str], str]:
    """Run the script with programs that only write down how they were called; return code, words of nox, output."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    (tmp_path / "seatrial/.venv/bin").mkdir(parents=True)
    folder.mkdir()
    fakes = {
        folder / "python": "exit 0",
        folder / "sudo": 'while case $1 in --*) ;; *) false ;; esac; do shift; done; echo sudo >>"$LOG"; exec "$@"',
        tmp_path / "seatrial/.venv/bin/nox": 'printf "%s\\n" "$@" >>"$LOG"; exit "$CODE"',
    }
    for path, text in fakes.items():
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    names = ("SESSION", "AS_ROOT", "PROMISES", "TARGET", "KIND", "BINARY", "ARTIFACT", "PROFILE")
    environment = dict.fromkeys(names, "") | {"LOG": str(log), "CODE": "0", "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", GITHUB / "acceptance"],
        cwd=tmp_path / "seatrial",
        env=environment | given,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, log.read_text().splitlines() if log.exists() else [], done.stdout


def test_session_of_the_catalogue_promises_the_facts(tmp_path: Path) -> None:
    code, words, _ = session_words(
        tmp_path, SESSION="acceptance-rootless(native)", AS_ROOT="false", PROMISES="docker overlay"
    )
    assert (0, ["-s", "acceptance-rootless(native)", "--", "--promise", "docker", "--promise", "overlay"]) == (
        code,
        words,
    )


def test_a_nightly_session_has_the_long_cases(tmp_path: Path) -> None:
    """Only the schedule asks for them, and they get more time."""
    words = session_words(tmp_path, SESSION="s", TIER="nightly")[1]
    assert ["-s", "s", "--", "--tier", "nightly"] == words
    assert "github.event_name == 'schedule' && 'nightly'" in (GITHUB / "workflows/ci.yml").read_text()
    assert "TIER: ${{ inputs.tier }}" in (GITHUB / "workflows/acceptance.yml").read_text()


def test_session_of_a_callers_target_runs_as_root_and_keeps_odd_names_whole(tmp_path: Path) -> None:
    binary = tmp_path / "artifact/bin/my init"
    binary.parent.mkdir(parents=True)
    binary.write_text("")
    binary.chmod(0o644)
    given = {"TARGET": "mine", "KIND": "init", "BINARY": "bin/my init", "ARTIFACT": "a", "PROFILE": "p $(x).toml"}
    code, words, _ = session_words(tmp_path, SESSION="s", AS_ROOT="true", CODE="1", **given)
    assert 1 == code
    target = ["--target", "mine=init:../artifact/bin/my init", "--profile", "../caller/p $(x).toml"]
    assert ["sudo", "-s", "s", "--", *target] == words
    assert os.access(binary, os.X_OK)


def test_target_without_a_path_is_refused(tmp_path: Path) -> None:
    code, words, output = session_words(tmp_path, SESSION="s", TARGET="mine", KIND="init")
    assert (64, []) == (code, words)
    assert output.startswith("::error::")


def test_workflow_commands_are_off_while_a_target_can_print(tmp_path: Path) -> None:
    _, _, output = session_words(tmp_path, SESSION="s")
    stop, start = output.splitlines()
    assert re.fullmatch(r"::stop-commands::[0-9a-f]{32}", stop)
    assert f"::{stop.removeprefix('::stop-commands::')}::" == start


# ---- the script that merges the run directories ----------------------------------------------------------------------


def merging(tmp_path: Path, *parts: str, makes: str = "") -> tuple[int, list[str], str, str]:
    """Run the script on run directories with these names; return code, words of nox, output and step summary."""
    folder, log, summary = tmp_path / "bin", tmp_path / "log", tmp_path / "summary"
    (tmp_path / "seatrial/.venv/bin").mkdir(parents=True)
    folder.mkdir()
    for part in parts:
        (tmp_path / "parts" / part).mkdir(parents=True)
        (tmp_path / "parts" / part / "run.json").write_text("{}")
    nox = f'printf "%s\\n" "$@" >>"$LOG"; {makes}\nexit 1'
    for path, text in {folder / "python": "exit 0", tmp_path / "seatrial/.venv/bin/nox": nox}.items():
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    given = {"LOG": str(log), "GITHUB_STEP_SUMMARY": str(summary), "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", GITHUB / "merge", "../parts"],
        cwd=tmp_path / "seatrial", env=given, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    words = log.read_text().splitlines() if log.exists() else []
    return done.returncode, words, done.stdout, summary.read_text() if summary.exists() else ""


def derived(place: str) -> str:
    return (
        f"mkdir -p {place} && touch {place}/verdict.json && echo all >{place}/summary.md && touch {place}/report.html"
    )


def test_all_run_directories_are_merged_into_one_report(tmp_path: Path) -> None:
    """A red run (nox ends with 1) has its report too; the summary stands on the step's."""
    code, words, output, summary = merging(tmp_path, "a b", "c", makes=derived("merged/latest"))
    assert (0, "all\n") == (code, summary)
    parts = [str(tmp_path / "parts" / part) for part in ("a b", "c")]
    assert ["-s", "report", "--", "--runs", str(tmp_path / "seatrial/merged"), *parts] == words
    assert (tmp_path / "seatrial/report/report.html").is_file()
    stop, start = output.splitlines()
    assert f"::{stop.removeprefix('::stop-commands::')}::" == start


def test_one_run_directory_is_the_report(tmp_path: Path) -> None:
    code, _, _, summary = merging(tmp_path, "only", makes=derived(f"{tmp_path}/parts/only"))
    assert (0, "all\n") == (code, summary)
    assert (tmp_path / "seatrial/report/run.json").is_file()


@pytest.mark.parametrize(("parts", "said"), [((), "no environment left"), (("a", "c"), "could not be merged")])
def test_no_report_is_an_error_line(tmp_path: Path, parts: tuple[str, ...], said: str) -> None:
    code, _, output, summary = merging(tmp_path, *parts)
    assert (1, "") == (code, summary)
    assert [line for line in output.splitlines() if line.startswith("::error title=Seatrial::") and said in line]


# ---- the workflows themselves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_say_which_version(path: Path) -> None:
    uses = re.findall(r"^\s*(?:- )?uses: (.*)$", path.read_text(), re.MULTILINE)
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/workflows/[\w-]+\.yml( # .*)?")
    assert uses
    assert [] == [use for use in uses if not pinned.fullmatch(use)]


def test_one_action_has_one_version() -> None:
    uses = {use for path in WORKFLOWS for use in re.findall(r"uses: ([\w-]+/[\w-]+@\S+)", path.read_text())}
    assert len({use.partition("@")[0] for use in uses}) == len(uses)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_is_expanded_into_a_script(path: Path) -> None:
    blocks = re.findall(r"^( *)(?:- )?run: (.*\n(?:(?:\1 +.*)?\n)*)", path.read_text(), re.MULTILINE)
    assert blocks
    assert [] == [block for _, block in blocks if "${{" in block]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_has_the_permissions_that_it_names(path: Path) -> None:
    text = path.read_text()
    jobs = re.split(r"^  [\w-]+:$", text.partition("\njobs:\n")[2], flags=re.MULTILINE)[1:]
    assert "\npermissions: {}\n" in text
    assert jobs
    allowed = re.compile(r"^    permissions:(?: \{\}|\n      contents: read)$", re.MULTILINE)
    assert [] == [job for job in jobs if not allowed.search(job)]
    assert "write" not in re.findall(r"^ +[\w-]+: (read|write)$", text, re.MULTILINE)


def test_every_job_must_be_green() -> None:
    text = (GITHUB / "workflows/ci.yml").read_text()
    jobs = re.findall(r"^  ([\w-]+):$", text.partition("\njobs:\n")[2], re.MULTILINE)
    needs = re.search(r"^    needs: \[(.*)\]$", text, re.MULTILINE)
    assert needs is not None
    assert [*needs[1].split(", "), "green"] == jobs


@pytest.mark.parametrize(
    "words",
    [["zizmor", "--offline", "--quiet"], ["actionlint", "-config-file", ".github/actionlint.yaml"]],
    ids=lambda words: words[0],
)
def test_linter_finds_nothing(words: list[str]) -> None:
    name = words[0]
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run(
        [path, *words[1:], *map(str, WORKFLOWS)], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, "") == (done.returncode, "" if done.returncode == 0 else done.stdout + done.stderr)


def job(name: str) -> str:
    """Return the text of a job of the reusable workflow."""
    text = (GITHUB / "workflows/acceptance.yml").read_text().partition("\njobs:\n")[2]
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n|  #.*\n)*)", text, re.MULTILINE)
    assert found is not None
    return found[1]


def test_every_artifact_says_how_long_it_is_kept() -> None:
    """As `clean` keeps things: results 90 days, logs 30."""
    uploads = [step for name in ("try", "report") for step in job(name).split("      - ") if "upload-artifact@" in step]
    kept = {
        (re.findall(r"^ +name: seatrial-(\w+)", step, re.MULTILINE) or ["results"])[0]: days
        for step in uploads
        for days in re.findall(r"^ +retention-days: (\d+)$", step, re.MULTILINE)
    }
    assert {"results": "90", "logs": "30", "report": "90"} == kept
    assert 3 == len(uploads)


def test_report_is_made_however_the_sessions_ended() -> None:
    """It fetches the run directories of this attempt by the beginning of their name, without the logs."""
    text = job("report")
    assert "    needs: [plan, try]\n" in text
    assert "    if: always() && " in text
    pattern = re.search(r"pattern: (.*)", text)
    name = re.search(r"name: (seatrial-\$\{\{.*)", job("try"))
    assert pattern is not None
    assert name is not None
    assert pattern[1].replace("root*", "${{ matrix.environment }}") == name[1]
    assert all(here.name.startswith("root") for here in ENVIRONMENTS)
    assert "bash .github/merge ../parts" in text
