"""The core of SentinelStream: what turns transactions into decisions, whoever calls.

It knows no Ray, Kafka or Kubernetes (import-linter proves it), and importing it does nothing.
``docs/architecture.md`` draws the way a transaction takes through these modules.
"""
