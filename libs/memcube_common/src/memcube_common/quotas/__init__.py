"""What a project may hold and do, and how much of it is used: taken in the transaction that uses it."""
