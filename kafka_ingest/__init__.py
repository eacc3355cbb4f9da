"""The stream: transactions from Kafka, scored by the application, and tools to fill and replay."""
