"""Cases for wrappers of build scripts."""
