"""From a source checkout to the executables that are tried."""
