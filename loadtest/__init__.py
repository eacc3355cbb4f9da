"""What the product costs and withstands, measured by commands that anyone can run."""
