"""Who may read what: the rule that the database's policies state, said once more for what happens in memory."""
