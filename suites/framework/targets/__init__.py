"""Targets: what is known of them (profiles, catalogue, deviations) and how the suites drive them (adapters)."""
