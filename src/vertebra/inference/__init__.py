"""Using a network: what a name means, the network ready in an engine, and the exports that this takes."""
