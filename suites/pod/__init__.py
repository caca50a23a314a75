"""Acceptance cases of kind pod: runtime handlers behind an engine."""
