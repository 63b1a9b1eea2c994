"""Provider ``digitalocean``: droplets, and the network that they need, for the nodes of a stack."""
