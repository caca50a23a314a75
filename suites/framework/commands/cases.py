"""``cases``: what is tested (layer 2)."""

from __future__ import annotations

from suites.framework import cases as case_list
from suites.framework.errors import ExitCode
from suites.framework.options import Options
from suites.framework.subjects import CHECKOUT


def cases(options: Options) -> ExitCode:
    """Print all cases, as a table or as JSON, or explain one."""
    known = case_list.load(CHECKOUT)
    if options.explain:
        print("\n\n".join(case_list.explained(case) for case in case_list.find(known, options.explain)))
    else:
        print(case_list.as_json(known) if options.json else case_list.as_table(known))
    return ExitCode.GREEN
