"""Acceptance suites for the programs that start and supervise other programs on Linux."""
