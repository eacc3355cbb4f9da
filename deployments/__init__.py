"""The models of a bundle as Ray Serve deployments, and the way to ask them."""
