"""Many measurements inside a budget: the cases, their Bundles, and the campaign that measures them."""
