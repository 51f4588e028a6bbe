"""How a network is trained: the recipe, the order of the pictures, what happens to each, and the steps."""
