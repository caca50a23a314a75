"""The first phase in every environment: whether it is what its name says, and what it has."""
