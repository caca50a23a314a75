"""The four environments, a privilege times a place: how a worker is started, stopped and told apart (layer 2)."""
