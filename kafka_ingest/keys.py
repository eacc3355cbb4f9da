"""What a record's key is: whatever of one customer happens stays in one partition, in its order."""

from sentinel.dataset import DatasetDescription
from sentinel.transactions import Transactions


def key_field(description: DatasetDescription) -> str:
    """The field whose value is the key: the first entity (the customer), else the id."""
    return description.entities[0] if description.entities else description.id


def record_keys(transactions: Transactions, description: DatasetDescription) -> list[bytes]:
    """(n,) the key of the record of each transaction, and of each decision on it."""
    name = key_field(description)
    column = transactions.ids if name == description.id else transactions.entities[name]
    return [key.encode() for key in column.to_pylist()]
