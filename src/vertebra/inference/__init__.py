"""Using a network: what its name refers to, the network loaded in an engine, and the exports this needs."""
