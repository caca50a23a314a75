"""The framework's own tests."""
