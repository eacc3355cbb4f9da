"""The Serve application: the HTTP ingress in front of the model deployments."""
