"""From a picture to a network's input, and the name of its class."""
