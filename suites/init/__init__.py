"""Acceptance cases for container inits; which rows they answer stands in their marks."""
