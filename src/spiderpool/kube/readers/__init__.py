"""What several programs read from the API in the same way: owners, records, reservations, facts."""
