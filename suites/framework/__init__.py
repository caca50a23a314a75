"""The machinery under the suites; empty on purpose, so that importing one layer never imports another."""
