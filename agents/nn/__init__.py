"""Parts of networks and optimisers that several algorithms share."""
