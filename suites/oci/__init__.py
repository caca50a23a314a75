"""Acceptance cases for OCI runtimes."""
