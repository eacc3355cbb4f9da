"""From a table of transactions to a bundle that can be trusted."""
